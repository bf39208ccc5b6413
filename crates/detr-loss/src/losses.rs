//! The losses of a group of layers, each as one number per layer (`SetCriterion.loss_*`).

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use detr_model::box_ops::{box_cxcywh_to_xyxy, elementwise_giou};

use crate::classification::Classification;
use crate::matcher::Matched;
use crate::targets::Targets;

/// Predictions of some layers, and what each should be.
pub(crate) struct Group<'a> {
    /// `[layers, B, Q, C]`, f32.
    logits: Tensor<4>,
    /// `[layers, B, Q, 4]`, f32.
    boxes: Tensor<4>,
    matched: &'a Matched,
    targets: &'a Targets,
    /// Pairs per layer.
    pairs: usize,
}

/// `[layers]` each.
pub(crate) struct GroupLosses {
    pub(crate) ce: Tensor<1>,
    pub(crate) bbox: Tensor<1>,
    pub(crate) giou: Tensor<1>,
    pub(crate) cardinality: Tensor<1>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(
        logits: Tensor<4>,
        boxes: Tensor<4>,
        matched: &'a Matched,
        targets: &'a Targets,
    ) -> Self {
        let pairs = matched.0.first().map_or(0, |images| images.iter().map(Vec::len).sum());
        Self {
            logits: logits.cast(FloatDType::F32),
            boxes: boxes.cast(FloatDType::F32),
            matched,
            targets,
            pairs,
        }
    }

    /// `objects` are those of every image of the whole batch.
    pub(crate) fn losses(
        &self,
        classification: Classification,
        num_boxes: f64,
        objects: &[usize],
    ) -> GroupLosses {
        let (bbox, giou) = self.boxes(num_boxes);
        let ce = match classification {
            Classification::Softmax { eos_coef } => self.cross_entropy(eos_coef, objects),
            Classification::Focal { alpha } => self.focal(alpha, num_boxes),
        };
        GroupLosses { ce, bbox, giou, cardinality: self.cardinality() }
    }

    /// Per cent of the matched queries of the last layer whose best class is not that of their object;
    /// 100 where nothing is matched, as in the reference.
    pub(crate) fn class_error(&self) -> Tensor<1> {
        let [layers, b, q, c] = self.logits.dims();
        let device = self.logits.device();
        if self.pairs == 0 {
            return Tensor::full([1], 100.0, (&device, DType::F32));
        }
        let (queries, objects) = self.indices(&device);
        let last = (layers - 1) * self.pairs..layers * self.pairs;
        let logits = self.logits.clone().detach().reshape([layers * b * q, c]);
        let best = logits.select(0, queries.slice_dim(0, last.clone())).argmax(1);
        let labels = self.targets.labels.clone().reshape([b * self.targets.most]);
        let labels = labels.select(0, objects.slice_dim(0, last)).reshape([self.pairs, 1]);
        let right: Tensor<2> = best.equal(labels).float().cast(DType::F32);
        right.mean() * -100.0 + 100.0
    }

    /// L1 and generalised `IoU` of the matched boxes.
    fn boxes(&self, num_boxes: f64) -> (Tensor<1>, Tensor<1>) {
        let [layers, b, q, _] = self.boxes.dims();
        let k = self.pairs;
        if k == 0 {
            // Zero, but part of the graph: every parameter gets a gradient.
            let zero = self.boxes.clone().reshape([layers, b * q * 4]).sum_dim(1).reshape([layers]);
            let zero = zero * 0.0;
            return (zero.clone(), zero);
        }
        let (queries, objects) = self.indices(&self.boxes.device());
        let found = self.boxes.clone().reshape([layers * b * q, 4]).select(0, queries);
        let wanted = self.targets.boxes.clone().reshape([b * self.targets.most, 4]);
        let wanted = wanted.select(0, objects);
        let bbox = (found.clone() - wanted.clone()).abs().reshape([layers, k * 4]).sum_dim(1);
        let giou = elementwise_giou(box_cxcywh_to_xyxy(found), box_cxcywh_to_xyxy(wanted));
        let giou = (giou * -1.0 + 1.0).reshape([layers, k]).sum_dim(1);
        (bbox.reshape([layers]) / num_boxes, giou.reshape([layers]) / num_boxes)
    }

    /// Cross-entropy over all queries, "no object" counting `eos_coef`; a mean by weight over the whole
    /// batch.
    fn cross_entropy(&self, eos_coef: f64, objects: &[usize]) -> Tensor<1> {
        let [layers, b, q, c] = self.logits.dims();
        let device = self.logits.device();
        let classes = self.classes(c - 1);
        #[allow(clippy::cast_possible_truncation)] // a weight
        let weights: Vec<f32> = classes
            .iter()
            .map(|&class| if class + 1 == c { eos_coef as f32 } else { 1.0 })
            .collect();
        let weights: Tensor<2> =
            Tensor::from_data(TensorData::new(weights, [layers, b * q]), (&device, DType::F32));
        let classes = int(&classes, &device).reshape([layers, b, q, 1]);
        let likelihood = log_softmax(self.logits.clone(), 3).gather(3, classes);
        let likelihood = likelihood.reshape([layers, b * q]);
        // Every object is matched, as long as there are queries left.
        let matched: usize = objects.iter().map(|&n| n.min(q)).sum();
        #[allow(clippy::cast_precision_loss)] // queries of a batch
        let weight = matched as f64 + eos_coef * (objects.len() * q - matched) as f64;
        let sum = (likelihood * weights).sum_dim(1) / weight;
        sum.neg().reshape([layers])
    }

    /// Sigmoid focal loss of every query and class (Lin et al. 2017), background being all zeros.
    fn focal(&self, alpha: f64, num_boxes: f64) -> Tensor<1> {
        let [layers, b, q, c] = self.logits.dims();
        let device = self.logits.device();
        let shape = [layers, b, q, c];
        let classes = int(&self.classes(c), &device).reshape([layers, b, q, 1]).expand(shape);
        let columns = Tensor::<1, Int>::arange(0..i64::try_from(c).unwrap_or(i64::MAX), &device);
        let columns = columns.reshape([1, 1, 1, c]).expand(shape);
        let wanted: Tensor<4> = classes.equal(columns).float().cast(DType::F32);
        let loss = sigmoid_focal(self.logits.clone(), wanted, alpha);
        loss.reshape([layers, b * q * c]).sum_dim(1).reshape([layers]) / num_boxes
    }

    /// Mean error of the number of queries whose best class is not the last one. In Deformable DETR
    /// the last is a class like any other, so this says nothing there; the reference logs it anyway.
    fn cardinality(&self) -> Tensor<1> {
        let [layers, b, q, c] = self.logits.dims();
        let last = i64::try_from(c - 1).unwrap_or(i64::MAX);
        let best = self.logits.clone().detach().argmax(3);
        let objects: Tensor<4> = best.not_equal_elem(last).float().cast(DType::F32);
        let found = objects.reshape([layers, b, q]).sum_dim(2).reshape([layers, b]);
        #[allow(clippy::cast_precision_loss)] // objects of an image
        let wanted: Vec<f32> =
            self.targets.images().iter().map(|target| target.labels.len() as f32).collect();
        let wanted: Tensor<2> =
            Tensor::from_data(TensorData::new(wanted, [1, b]), (&self.logits.device(), DType::F32));
        (found - wanted).abs().mean_dim(1).reshape([layers])
    }

    /// Class of every query, `[layers, B, Q]`: that of its object, or `background`.
    fn classes(&self, background: usize) -> Vec<usize> {
        let [layers, b, q, _] = self.logits.dims();
        let mut classes = vec![background; layers * b * q];
        for (layer, images) in self.matched.0.iter().enumerate() {
            for (image, pairs) in images.iter().enumerate() {
                for &(query, object) in pairs {
                    let label = self.targets.images()[image].labels[object];
                    classes[(layer * b + image) * q + query] = label;
                }
            }
        }
        classes
    }

    /// Rows of the matched queries in `[layers * B * Q, _]` and of their objects in `[B * most, _]`,
    /// layer by layer.
    fn indices(&self, device: &Device) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let [_, b, q, _] = self.logits.dims();
        let (mut queries, mut objects) = (Vec::new(), Vec::new());
        for (layer, images) in self.matched.0.iter().enumerate() {
            for (image, pairs) in images.iter().enumerate() {
                for &(query, object) in pairs {
                    queries.push((layer * b + image) * q + query);
                    objects.push(image * self.targets.most + object);
                }
            }
        }
        (int(&queries, device), int(&objects, device))
    }
}

/// `-alpha_t (1 - p_t)^2 log(p_t)`, element by element.
pub(crate) fn sigmoid_focal<const D: usize>(
    logits: Tensor<D>,
    wanted: Tensor<D>,
    alpha: f64,
) -> Tensor<D> {
    let other = wanted.clone() * -1.0 + 1.0;
    let log_likelihood = log_sigmoid(logits.clone()) * wanted.clone()
        + log_sigmoid(logits.clone().neg()) * other.clone();
    let p = sigmoid(logits);
    let miss = p.clone() * other.clone() + (p * -1.0 + 1.0) * wanted.clone();
    let alpha = wanted * alpha + other * (1.0 - alpha);
    (log_likelihood * miss.square() * alpha).neg()
}

fn int(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.iter().map(|&value| i32::try_from(value).unwrap_or(i32::MAX)).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
