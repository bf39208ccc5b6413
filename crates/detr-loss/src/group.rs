//! The losses of one group of predictions, each as one number per layer (`SetCriterion.loss_*` of the
//! references).

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use detr_model::box_ops::{box_cxcywh_to_xyxy, elementwise_giou};
use detr_model::reduce::sum_rows;

use crate::assignment::{Assignment, PairAt};
use crate::classification::Classification;
use crate::focal::sigmoid_focal;
use crate::predictions::PredictionGroup;
use crate::targets::Targets;

/// A group of predictions, beside the objects that its queries should predict.
pub(crate) struct GroupCriterion<'a> {
    /// `[layers, B, Q, C]`, f32.
    logits: Tensor<4>,
    /// `[layers, B, Q, 4]`, f32.
    boxes: Tensor<4>,
    assignment: &'a Assignment,
    targets: &'a Targets,
    /// The number of pairs in each layer.
    pairs: usize,
    queries_per_object: usize,
}

/// The losses of the layers of a group, `[layers]` each.
pub(crate) struct LayerLosses {
    pub(crate) ce: Tensor<1>,
    pub(crate) bbox: Tensor<1>,
    pub(crate) giou: Tensor<1>,
    pub(crate) cardinality: Tensor<1>,
}

impl<'a> GroupCriterion<'a> {
    pub(crate) fn new(
        group: &PredictionGroup,
        assignment: &'a Assignment,
        targets: &'a Targets,
    ) -> Self {
        let [layers, b, q, _] = group.logits.dims();
        // Pairs become rows of flattened tensors below, where a query too many is one of the next image.
        let fits = |at: PairAt| {
            at.image < b && at.query < q && at.object < targets.images()[at.image].labels.len()
        };
        assert!(
            assignment.layers.len() == layers && assignment.pairs().all(fits),
            "an assignment has the layers, queries and objects of its group"
        );
        let mut counts =
            assignment.layers.iter().map(|images| images.iter().map(Vec::len).sum::<usize>());
        let pairs = counts.next().unwrap_or(0);
        assert!(counts.all(|count| count == pairs), "all layers have as many pairs");
        Self {
            logits: group.logits.clone().cast(FloatDType::F32),
            boxes: group.boxes.clone().cast(FloatDType::F32),
            assignment,
            targets,
            pairs,
            queries_per_object: group.matching.queries_per_object(),
        }
    }

    /// Returns all losses that count in every layer, and the error of the number of objects. `num_boxes` is
    /// the number that losses are divided by, `objects` has the number of objects of every image of the whole
    /// batch.
    pub(crate) fn losses(
        &self,
        classification: Classification,
        num_boxes: f64,
        objects: &[usize],
    ) -> LayerLosses {
        let (bbox, giou) = self.boxes(num_boxes);
        let ce = match classification {
            Classification::Softmax { eos_coef } => self.cross_entropy(eos_coef, objects),
            Classification::Focal { alpha } => self.focal(alpha, num_boxes),
        };
        LayerLosses { ce, bbox, giou, cardinality: self.cardinality() }
    }

    /// Returns the percentage of matched queries of the last layer whose best class is not the class of their
    /// object. It is 100 if no query is matched, as in the reference.
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

    /// Returns the L1 loss and the generalised-`IoU` loss of the matched boxes.
    fn boxes(&self, num_boxes: f64) -> (Tensor<1>, Tensor<1>) {
        let [layers, b, q, _] = self.boxes.dims();
        let k = self.pairs;
        if k == 0 {
            // Zero, but part of the graph: every parameter gets a gradient.
            let zero = sum_rows(self.boxes.clone().reshape([layers, b * q * 4])).reshape([layers]);
            let zero = zero * 0.0;
            return (zero.clone(), zero);
        }
        let (queries, objects) = self.indices(&self.boxes.device());
        let predicted = self.boxes.clone().reshape([layers * b * q, 4]).select(0, queries);
        let target = self.targets.boxes.clone().reshape([b * self.targets.most, 4]);
        let target = target.select(0, objects);
        let bbox = sum_rows((predicted.clone() - target.clone()).abs().reshape([layers, k * 4]));
        let giou = elementwise_giou(box_cxcywh_to_xyxy(predicted), box_cxcywh_to_xyxy(target));
        let giou = sum_rows((giou * -1.0 + 1.0).reshape([layers, k]));
        (bbox.reshape([layers]) / num_boxes, giou.reshape([layers]) / num_boxes)
    }

    /// Returns the cross-entropy of all queries: a mean over the whole batch in which "no object" has the
    /// weight `eos_coef`.
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
        let matched: usize = objects.iter().map(|&n| (n * self.queries_per_object).min(q)).sum();
        #[allow(clippy::cast_precision_loss)] // queries of a batch
        let weight = matched as f64 + eos_coef * (objects.len() * q - matched) as f64;
        let sum = sum_rows(likelihood * weights) / weight;
        sum.neg().reshape([layers])
    }

    /// Returns the sigmoid focal loss, summed over all queries and classes. Background is 0 in every class.
    fn focal(&self, alpha: f64, num_boxes: f64) -> Tensor<1> {
        let [layers, b, q, c] = self.logits.dims();
        let device = self.logits.device();
        let shape = [layers, b, q, c];
        let classes = int(&self.classes(c), &device).reshape([layers, b, q, 1]).expand(shape);
        let columns = Tensor::<1, Int>::arange(0..i64::try_from(c).unwrap_or(i64::MAX), &device);
        let columns = columns.reshape([1, 1, 1, c]).expand(shape);
        let one_hot: Tensor<4> = classes.equal(columns).float().cast(DType::F32);
        let loss = sigmoid_focal(self.logits.clone(), one_hot, alpha);
        sum_rows(loss.reshape([layers, b * q * c])).reshape([layers]) / num_boxes
    }

    /// Returns by how much the number of queries whose best class is not the last one differs from the number
    /// of objects, as a mean over the images. In Deformable DETR the last class is a class like any other, so
    /// that the number says nothing there; the reference logs it anyway.
    fn cardinality(&self) -> Tensor<1> {
        let [layers, b, q, c] = self.logits.dims();
        let device = self.logits.device();
        let last = i64::try_from(c - 1).unwrap_or(i64::MAX);
        let best = self.logits.clone().detach().argmax(3);
        let is_object: Tensor<4> = best.not_equal_elem(last).float().cast(DType::F32);
        let predicted = is_object.reshape([layers, b, q]).sum_dim(2).reshape([layers, b]);
        #[allow(clippy::cast_precision_loss)] // objects of an image
        let objects: Vec<f32> =
            self.targets.images().iter().map(|target| target.labels.len() as f32).collect();
        let objects: Tensor<2> =
            Tensor::from_data(TensorData::new(objects, [1, b]), (&device, DType::F32));
        (predicted - objects).abs().mean_dim(1).reshape([layers])
    }

    /// Returns the class that every query should have, `[layers, B, Q]`: the class of its object, or
    /// `background`.
    fn classes(&self, background: usize) -> Vec<usize> {
        let [layers, b, q, _] = self.logits.dims();
        let mut classes = vec![background; layers * b * q];
        for PairAt { layer, image, query, object } in self.assignment.pairs() {
            let label = self.targets.images()[image].labels[object];
            classes[(layer * b + image) * q + query] = label;
        }
        classes
    }

    /// Returns the rows of the matched queries in `[layers * B * Q, _]`, and those of their objects in
    /// `[B * most, _]`, layer by layer.
    fn indices(&self, device: &Device) -> (Tensor<1, Int>, Tensor<1, Int>) {
        let [_, b, q, _] = self.logits.dims();
        let (mut queries, mut objects) = (Vec::new(), Vec::new());
        for PairAt { layer, image, query, object } in self.assignment.pairs() {
            queries.push((layer * b + image) * q + query);
            objects.push(image * self.targets.most + object);
        }
        (int(&queries, device), int(&objects, device))
    }
}

fn int(values: &[usize], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> =
        values.iter().map(|&value| i32::try_from(value).unwrap_or(i32::MAX)).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}
