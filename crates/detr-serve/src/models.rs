//! The models of a server by name and version. Names come from this closed set and are never part of a path.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use detr_data::RgbImage;
use detr_infer::{PredictOptions, Predictor};

use crate::engine::{DetectionOptions, Engine, PredictorEngine};
use crate::error::RequestError;

/// A way to read a model again.
pub type LoadModel = Box<dyn Fn() -> Result<Predictor, String> + Send + Sync>;

/// A model that is to be served.
pub struct ModelSource {
    /// The name in addresses: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The version in addresses.
    pub version: String,
    /// The model as it was read first.
    pub predictor: Predictor,
    /// The options that it was made with.
    pub options: PredictOptions,
    /// The way to read it again.
    pub load: LoadModel,
}

/// A model that is ready to detect.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) engine: Box<dyn Engine>,
}

impl Model {
    /// Detects in a picture without objects: the first run on a device compiles and tunes its kernels.
    pub(crate) fn warm_up(&self) -> Result<(), String> {
        let start = Instant::now();
        let picture = RgbImage::new(640, 480);
        let wanted =
            DetectionOptions { threshold: 0.5, masks: self.engine.has_masks(), output: false };
        let (found, _) =
            self.engine.detect(vec![picture], wanted).map_err(|error| error.to_string())?;
        for outcome in found {
            outcome.map_err(|fault| fault.to_string())?;
        }
        tracing::info!("warm-up of {} took {:.2?}", self.name, start.elapsed());
        Ok(())
    }
}

/// The state of a model.
#[derive(Clone)]
enum State {
    Ready(Arc<Model>),
    /// Not loaded, because a client said so or because it could not be read again.
    Unavailable(String),
}

struct Slot {
    name: String,
    version: String,
    options: PredictOptions,
    load: LoadModel,
    state: RwLock<State>,
}

/// A line of the index of models.
pub(crate) struct ModelEntry {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The reason why the model is not ready, if it is not.
    pub(crate) unavailable: Option<String>,
}

/// All models; the first is the one of requests that name none.
pub(crate) struct Models(Vec<Slot>);

impl Models {
    pub(crate) fn new(sources: Vec<ModelSource>) -> Result<Self, String> {
        let mut slots: Vec<Slot> = Vec::new();
        for source in sources {
            let ModelSource { name, version, predictor, options, load } = source;
            if slots.iter().any(|slot| slot.name == name && slot.version == version) {
                return Err(format!(
                    "two models are called `{name}` (version {version})\nhint: give them names: --model NAME=PATH or \
                     --model NAME@VERSION=PATH"
                ));
            }
            let engine = Box::new(PredictorEngine::new(predictor, options.clone())?);
            let model = Model { name: name.clone(), version: version.clone(), engine };
            let state = RwLock::new(State::Ready(Arc::new(model)));
            slots.push(Slot { name, version, options, load, state });
        }
        if slots.is_empty() {
            return Err("there is no model to serve\nhint: give --model PATH".to_owned());
        }
        Ok(Self(slots))
    }

    /// Returns a list without models, for tests of the worker.
    #[cfg(test)]
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// Returns all models that are ready.
    pub(crate) fn ready(&self) -> Vec<Arc<Model>> {
        let model = |slot: &Slot| match slot.state() {
            State::Ready(model) => Some(model),
            State::Unavailable(_) => None,
        };
        self.0.iter().filter_map(model).collect()
    }

    /// Returns the first model.
    pub(crate) fn first(&self) -> Result<Arc<Model>, RequestError> {
        self.0[0].model()
    }

    /// Finds a model; without a version it is the one with the highest number.
    pub(crate) fn find(
        &self,
        name: &str,
        version: Option<&str>,
    ) -> Result<Arc<Model>, RequestError> {
        self.slot(name, version)?.model()
    }

    /// Lists all models.
    pub(crate) fn index(&self) -> Vec<ModelEntry> {
        let entry = |slot: &Slot| ModelEntry {
            name: slot.name.clone(),
            version: slot.version.clone(),
            unavailable: match slot.state() {
                State::Ready(_) => None,
                State::Unavailable(reason) => Some(reason),
            },
        };
        self.0.iter().map(entry).collect()
    }

    /// Returns the versions of a model.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let versions = self.0.iter().filter(|slot| slot.name == name);
        versions.map(|slot| slot.version.clone()).collect()
    }

    /// Returns the names of all models, each once.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|slot| slot.name.as_str()).collect();
        names.dedup();
        names
    }

    /// Reads all versions of a model again, and puts them in place of the old ones once they work. Until then, and if
    /// they do not, the old ones answer; what waits in the queue is answered by the model that it was meant for.
    pub(crate) fn reload(&self, name: &str) -> Result<(), RequestError> {
        let slots = self.0.iter().filter(|slot| slot.name == name);
        slots.into_iter().try_for_each(|slot| {
            slot.reload().map_err(|reason| {
                let message = format!("the model `{name}` cannot be read again: {reason}");
                RequestError::bad(message)
            })
        })
    }

    /// Reads all models again. Those that cannot be read stay as they were; their names come with the reasons.
    pub(crate) fn reload_all(&self) -> Vec<(String, String)> {
        let failed = |slot: &Slot| slot.reload().err().map(|reason| (slot.name.clone(), reason));
        self.0.iter().filter_map(failed).collect()
    }

    /// Takes all versions of a model out of service.
    pub(crate) fn unload(&self, name: &str) {
        for slot in self.0.iter().filter(|slot| slot.name == name) {
            slot.set(State::Unavailable("unloaded".to_owned()));
        }
    }

    fn slot(&self, name: &str, version: Option<&str>) -> Result<&Slot, RequestError> {
        let named = || self.0.iter().filter(|slot| slot.name == name);
        let found = match version {
            Some(version) => named().find(|slot| slot.version == version),
            None => named().max_by_key(|slot| slot.version.parse::<u64>().unwrap_or(0)),
        };
        found.ok_or_else(|| {
            let names = self.names();
            let shown = names.iter().take(5).map(|name| format!("`{name}`"));
            let mut list = shown.collect::<Vec<_>>().join(", ");
            if names.len() > 5 {
                list = format!("{list} and {} more", names.len() - 5);
            }
            RequestError::not_found(format!(
                "there is no such model, or not in this version\nhint: the models are {list}"
            ))
        })
    }
}

impl Slot {
    fn state(&self) -> State {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn model(&self) -> Result<Arc<Model>, RequestError> {
        match self.state() {
            State::Ready(model) => Ok(model),
            State::Unavailable(reason) => {
                Err(RequestError::busy(format!("the model `{}` is not ready: {reason}", self.name)))
            }
        }
    }

    fn reload(&self) -> Result<(), String> {
        let predictor = (self.load)()?;
        let engine = Box::new(PredictorEngine::new(predictor, self.options.clone())?);
        let (name, version) = (self.name.clone(), self.version.clone());
        let model = Model { name, version, engine };
        model.warm_up()?;
        self.set(State::Ready(Arc::new(model)));
        Ok(())
    }
}
