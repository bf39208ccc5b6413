//! The way of a request's pictures: decoded in the blocking pool, through the queue, and back with their detections.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;
use detr_data::{RgbImage, decode_image};
use detr_detect::ImageFault;
use detr_infer::backend::catch_panic;
use detr_model::postprocess::HostOutput;
use detr_types::{Detection, ImageSize};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use crate::app::{App, RequestTime};
use crate::engine::{DetectedPicture, DetectionOptions};
use crate::error::RequestError;
use crate::models::Model;
use crate::queue::{Job, PictureResult, QueueError, Reply};
use crate::request_options::RequestOptions;

/// The pictures of a request and what it wants of them.
pub(crate) struct Task {
    pub(crate) model: Arc<Model>,
    pub(crate) pictures: Vec<Picture>,
    pub(crate) choice: RequestOptions,
    pub(crate) time: RequestTime,
}

/// A picture as it came.
pub(crate) struct Picture {
    /// The client's name for it.
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// The content of a picture.
pub(crate) enum Content {
    /// An encoded file.
    File(Bytes),
    /// Pixels.
    Pixels(RgbImage),
    /// Something that cannot be one.
    Fault(String),
}

/// A picture with its detections.
pub(crate) struct Answer {
    pub(crate) name: String,
    /// The detections, or the fault of the picture.
    pub(crate) found: Result<PictureDetections, String>,
}

/// The detections of a picture.
pub(crate) struct PictureDetections {
    pub(crate) picture: RgbImage,
    pub(crate) detections: Vec<Detection>,
    /// The predictions of the model's last layer, where they are wanted.
    pub(crate) output: Option<HostOutput>,
    pub(crate) times: Times,
    _memory: Option<OwnedSemaphorePermit>,
}

/// The times of a picture, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) queue: f64,
    pub(crate) infer: f64,
    pub(crate) postprocess: f64,
}

impl PictureDetections {
    pub(crate) fn size(&self) -> ImageSize {
        ImageSize::new(self.picture.height(), self.picture.width())
    }
}

/// Detects in the pictures of a request. Pictures that cannot be used get faults of their own.
pub(crate) async fn predict(app: &App, task: Task) -> Result<Vec<Answer>, RequestError> {
    let Task { model, pictures, choice, time } = task;
    choice.check(&model)?;
    check_count(app, pictures.len())?;
    app.queue.check_room(pictures.len()).map_err(|refused| refusal(app, refused))?;
    let work = async {
        let (names, decoded) = decode(app, pictures).await?;
        detect(app, &model, choice, time, names, decoded).await
    };
    let answers = match timeout_at(time.deadline.into(), work).await {
        Ok(answers) => answers?,
        Err(_) => return Err(RequestError::deadline()),
    };
    for answer in &answers {
        app.metrics.picture(&model.name, if answer.found.is_ok() { "ok" } else { "fault" });
    }
    Ok(answers)
}

fn check_count(app: &App, count: usize) -> Result<(), RequestError> {
    let most = app.options.limits.images.min(app.options.batching.queue);
    if count == 0 {
        return Err(RequestError::bad("the request has no picture"));
    }
    if count > most {
        return Err(RequestError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("{count} pictures, at most {most}\nhint: send them in several requests"),
        ));
    }
    Ok(())
}

fn refusal(app: &App, refused: QueueError) -> RequestError {
    match (refused, app.device.lost()) {
        (QueueError::Full, _) => {
            RequestError::busy("too many pictures wait already\nhint: try again later")
        }
        (QueueError::Closed, Some(reason)) => RequestError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the device failed: {reason}"),
        ),
        (QueueError::Closed, None) => RequestError::busy("the server is stopping"),
    }
}

/// A picture in memory, or its fault.
type DecodedPicture = Result<(RgbImage, Option<OwnedSemaphorePermit>), String>;

/// Decodes files, each in the blocking pool and as many at a time as there are cores.
async fn decode(
    app: &App,
    pictures: Vec<Picture>,
) -> Result<(Vec<String>, Vec<DecodedPicture>), RequestError> {
    let mut names = Vec::with_capacity(pictures.len());
    let mut decoded: Vec<DecodedPicture> = Vec::with_capacity(pictures.len());
    // A request that is cancelled ends its tasks.
    let mut tasks = JoinSet::new();
    for (index, Picture { name, content }) in pictures.into_iter().enumerate() {
        names.push(name);
        match content {
            Content::Pixels(picture) => decoded.push(Ok((picture, None))),
            Content::Fault(fault) => decoded.push(Err(fault)),
            Content::File(bytes) => {
                decoded.push(Err("the decoder failed".to_owned()));
                let (decoders, metrics) = (Arc::clone(&app.decoders), Arc::clone(&app.metrics));
                let options = app.options.limits.decoding;
                tasks.spawn(async move {
                    let _turn = decoders.acquire_owned().await;
                    let work = move || {
                        let start = Instant::now();
                        let picture = catch_panic(|| decode_image(&bytes, &options));
                        metrics.decoded(start.elapsed());
                        match picture {
                            Ok(Ok(picture)) => Ok(picture),
                            Ok(Err(error)) => Err(ImageFault::from(error).to_string()),
                            Err(panic) => Err(ImageFault::Decoder(panic).to_string()),
                        }
                    };
                    (index, tokio::task::spawn_blocking(work).await)
                });
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, Ok(picture))) = done {
            decoded[index] = match picture {
                Ok(picture) => {
                    let memory = app.reserve(picture.as_raw().len())?;
                    Ok((picture, Some(memory)))
                }
                Err(fault) => Err(fault),
            };
        }
    }
    Ok((names, decoded))
}

/// Lets the good pictures through the queue.
async fn detect(
    app: &App,
    model: &Arc<Model>,
    choice: RequestOptions,
    time: RequestTime,
    names: Vec<String>,
    decoded: Vec<DecodedPicture>,
) -> Result<Vec<Answer>, RequestError> {
    let threshold = choice.threshold.unwrap_or_else(|| model.engine.threshold());
    let wanted = DetectionOptions { threshold, masks: choice.masks, output: choice.output };
    let arrived = Instant::now();
    let mut jobs = Vec::new();
    let mut waiting = Vec::with_capacity(decoded.len());
    for picture in decoded {
        waiting.push(picture.map(|(picture, memory)| {
            let (reply, receiver) = oneshot::channel();
            let (model, deadline) = (Arc::clone(model), time.deadline);
            jobs.push(Job { model, picture, wanted, arrived, deadline, reply, memory });
            receiver
        }));
    }
    if !jobs.is_empty() {
        app.queue.push(jobs).map_err(|refused| refusal(app, refused))?;
        app.metrics.queue_length(app.queue.len());
    }
    let most = choice.max_detections.unwrap_or(usize::MAX);
    let mut answers = Vec::with_capacity(names.len());
    for (name, receiver) in names.into_iter().zip(waiting) {
        let found = match receiver {
            Err(fault) => Err(fault),
            Ok(receiver) => match receiver.await {
                Ok(Reply::Detections(found)) => Ok(PictureDetections::new(found, threshold, most)),
                Ok(Reply::Fault(fault)) => Err(fault.to_string()),
                Ok(Reply::Failed(reason)) => {
                    return Err(RequestError::new(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        format!("the prediction failed: {reason}"),
                    ));
                }
                // The queue forgets pictures whose time is over.
                Err(_) => return Err(RequestError::deadline()),
            },
        };
        answers.push(Answer { name, found });
    }
    Ok(answers)
}

impl PictureDetections {
    /// Keeps the detections that the request wants.
    fn new(found: PictureResult, threshold: f32, most: usize) -> Self {
        let PictureResult { detected, queued, stages, memory } = found;
        let DetectedPicture { picture, mut detections, output } = detected;
        detections.retain(|detection| detection.score >= threshold);
        detections.truncate(most);
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let infer = ms(stages.resize + stages.backbone + stages.transformer);
        let times = Times { queue: ms(queued), infer, postprocess: ms(stages.postprocess) };
        Self { picture, detections, output, times, _memory: memory }
    }
}
