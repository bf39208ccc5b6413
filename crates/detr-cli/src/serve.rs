//! `detr serve`: a server that detects.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use detr_infer::PredictOptions;
use detr_infer::backend::{Backend, SelectedDevice};
use detr_infer::cli::{
    CliError, Console, DeviceArgs, ImageArgs, LoadArgs, LogArgs, make_predictor, open_model_sized,
    print, read_text,
};
use detr_serve::{
    Batching, Control, FurtherRoutes, LogRequest, ModelSource, RequestLimits, RequestRecord,
    RunError, ServeOptions, Server, TlsFiles, Tokens,
};
use detr_types::env;

/// Flags of `detr serve`.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Model, like that of `detr predict`; NAME=PATH or NAME@VERSION=PATH names it for clients. May be repeated; the
    /// first is the one of requests that name none
    #[arg(long, required = true, value_name = "[NAME=]PATH|NAME")]
    model: Vec<OsString>,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    device: DeviceArgs,

    /// Address to listen on; 0.0.0.0 for all networks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Port to listen on; 0 for any that is free [default: 8080, or what the variables of a cloud say]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Port to listen on for gRPC, beside the other; 0 for any that is free [default: no gRPC]
    #[arg(long, value_name = "PORT")]
    grpc_port: Option<u16>,

    /// Encrypt connections with this certificate, a file in PEM with those behind it that lead to a known one
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Least score of a detection where a request names none, 0 to 1
    #[arg(long, value_name = "SCORE", default_value_t = 0.5)]
    threshold: f32,

    /// Most detections per image; the best are kept
    #[arg(long, value_name = "N", default_value_t = 100)]
    max_detections: usize,

    /// Only these classes; comma separated, may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    classes: Vec<String>,

    #[command(flatten)]
    sizes: SizeArgs,

    #[command(flatten)]
    behaviour: BehaviourArgs,

    /// File with tokens, one a line; requests then need one, but health checks do not. The environment variable
    /// `DETR_SERVE_TOKEN` is one more
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Let clients load models again and unload them, through the routes of model repositories
    #[arg(long)]
    model_control: bool,

    /// Write a line of JSON to stderr for every request
    #[arg(long)]
    log_requests: bool,

    /// Send every request as a span to OpenTelemetry's collector at `OTEL_EXPORTER_OTLP_ENDPOINT`
    #[cfg(feature = "otel")]
    #[arg(long)]
    otel: bool,
}

/// The flags that set how pictures are resized.
#[derive(Args)]
struct SizeArgs {
    /// Resize images to this short side, in pixels [default: the model card's]
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,

    /// Longest side after resizing, in pixels [default: the model card's]
    #[arg(long, value_name = "PIXELS")]
    max_size: Option<u32>,

    /// Turn images as their EXIF data say, which the reference does not
    #[arg(long)]
    apply_exif: bool,
}

/// The flags that set queue, limits and times.
#[derive(Args)]
struct BehaviourArgs {
    /// Most images that the device gets at a time; a CPU computes them one by one [default: 8 on a GPU, 1 on a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_batch: Option<u16>,

    /// Longest time that an image waits for others of its size, in milliseconds [default: 2 on a GPU, 0 on a CPU]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    max_delay: Option<u64>,

    /// Most images that wait for the device; further ones get status 503
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_queue: u32,

    /// Most time for a request, the queue included, in seconds; later it gets status 504
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = seconds)]
    deadline: f64,

    /// Most time for requests in progress after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    drain: f64,

    /// Time for which requests are still taken after SIGTERM, for load balancers that learn of it late, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    linger: f64,

    /// Largest body of a request, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_body: u32,

    /// Most images of a request
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_images: u32,

    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = 50_000_000)]
    max_pixels: u64,

    /// Most memory for bodies and decoded images of all requests together, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=1_048_576))]
    memory: u32,

    /// Most open connections
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,

    /// Most time for the head of a request, after which an idle connection is closed, too, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    head_timeout: f64,

    /// Most time for the body of a request, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    body_timeout: f64,
}

/// The port of clients that are told nothing else.
const DEFAULT_PORT: u16 = 8080;

pub(crate) fn run(args: &ServeArgs, console: &Console) -> Result<(), CliError> {
    let start = Instant::now();
    let tokens = tokens(args)?;
    let options = serve_options(args)?;
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let sources = args
        .model
        .iter()
        .map(|model| open(args, model, &selected, console))
        .collect::<Result<_, _>>()?;
    let on_cpu = on_cpu(&selected);
    let b = &args.behaviour;
    let batching = Batching {
        most: b.max_batch.map_or(if on_cpu { 1 } else { 8 }, usize::from),
        delay: Duration::from_millis(b.max_delay.unwrap_or(if on_cpu { 0 } else { 2 })),
        queue: b.max_queue as usize,
    };
    let options = ServeOptions { batching, device_survives: on_cpu, ..options };
    let log = log_of(args)?;
    let server = Server::bind(sources, options, tokens, log).map_err(failed)?;
    let address = server.address().map_err(|error| failed(RunError::Start(error)))?;
    catch_signals(server.control())?;
    let scheme = if args.tls_cert.is_some() { "https" } else { "http" };
    print(&format!("listening on {scheme}://{address}\n"))?;
    if let Some(address) = server.grpc_address().map_err(|error| failed(RunError::Start(error)))? {
        let scheme = if args.tls_cert.is_some() { "grpcs" } else { "grpc" };
        print(&format!("listening on {scheme}://{address}\n"))?;
    }
    let quiet = console.is_quiet();
    let ready = move || {
        if !quiet {
            say(&format!("ready after {:.2} s\n", start.elapsed().as_secs_f64()));
        }
    };
    server.run(ready).map_err(failed)
}

/// Says something from another thread than the console's.
fn say(text: &str) {
    // A message that cannot be shown has no other place to go.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Returns what takes the records of requests, if something does.
#[cfg(not(feature = "otel"))]
#[allow(clippy::unnecessary_wraps)] // with OpenTelemetry it can fail
fn log_of(args: &ServeArgs) -> Result<Option<LogRequest>, CliError> {
    Ok(args.log_requests.then(|| Box::new(log_request) as LogRequest))
}

/// Returns what takes the records of requests, if something does.
#[cfg(feature = "otel")]
fn log_of(args: &ServeArgs) -> Result<Option<LogRequest>, CliError> {
    let lines = args.log_requests;
    if !args.otel {
        return Ok(lines.then(|| Box::new(log_request) as LogRequest));
    }
    let spans = crate::otel::SpanSender::new().map_err(CliError::Usage)?;
    Ok(Some(Box::new(move |record| {
        spans.send(record);
        if lines {
            log_request(record);
        }
    })))
}

fn log_request(record: &RequestRecord<'_>) {
    if let Ok(line) = serde_json::to_string(record) {
        say(&(line + "\n"));
    }
}

const fn on_cpu(selected: &SelectedDevice) -> bool {
    matches!(selected.backend, Backend::Flex | Backend::Ndarray)
}

fn failed(error: RunError) -> CliError {
    match error {
        RunError::Options(message) => CliError::Usage(message),
        RunError::Device(reason) => CliError::Device(reason),
        _ => CliError::Failed(error.to_string()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=86_400.0).contains(value));
    value.ok_or_else(|| "expected a number of seconds, at most a day".to_owned())
}

fn tokens(args: &ServeArgs) -> Result<Tokens, CliError> {
    let mut text = String::new();
    if let Some(path) = &args.token_file {
        text = read_text(path)?;
    }
    if let Some(token) = std::env::var_os(env::DETR_SERVE_TOKEN).filter(|token| !token.is_empty()) {
        text.push('\n');
        text.push_str(&token.to_string_lossy());
    }
    if args.token_file.is_none() && text.is_empty() {
        return Ok(Tokens::default());
    }
    let place = args
        .token_file
        .as_ref()
        .map_or_else(|| env::DETR_SERVE_TOKEN.to_owned(), |path| path.display().to_string());
    Tokens::parse(&text).map_err(|reason| CliError::Usage(format!("{place}: {reason}")))
}

/// Returns the port of the flag, or of the environment variable by which `SageMaker` or Vertex AI set it.
fn port(args: &ServeArgs) -> Result<u16, CliError> {
    if let Some(port) = args.port {
        return Ok(port);
    }
    for name in [env::AIP_HTTP_PORT, env::SAGEMAKER_BIND_TO_PORT] {
        if let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) {
            let text = text.to_string_lossy();
            return text.parse().map_err(|_| {
                CliError::Usage(format!("{name}: `{text}` is no port\nhint: give --port"))
            });
        }
    }
    Ok(DEFAULT_PORT)
}

/// Returns a path of an environment variable.
fn route(name: &str) -> Result<Option<String>, CliError> {
    let Some(path) = std::env::var_os(name).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = path.to_string_lossy().into_owned();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.:~".contains(&byte);
    if path.starts_with('/') && path.bytes().all(fits) {
        Ok(Some(path))
    } else {
        Err(CliError::Usage(format!("{name}: expected a path such as /predict")))
    }
}

fn serve_options(args: &ServeArgs) -> Result<ServeOptions, CliError> {
    let b = &args.behaviour;
    let time = Duration::from_secs_f64;
    let limits = RequestLimits {
        body_bytes: (b.max_body as usize) << 20,
        images: b.max_images as usize,
        decoding: image_args(args).decoding(),
        memory_bytes: (b.memory as usize) << 20,
        connections: b.max_connections as usize,
        head_time: time(b.head_timeout),
        body_time: time(b.body_timeout),
    };
    let further_routes = FurtherRoutes {
        health: route(env::AIP_HEALTH_ROUTE)?,
        predict: route(env::AIP_PREDICT_ROUTE)?,
    };
    let tls = args.tls_cert.clone().zip(args.tls_key.clone());
    let tls = tls.map(|(certificate, key)| TlsFiles { certificate, key });
    Ok(ServeOptions {
        address: SocketAddr::new(args.host, port(args)?),
        grpc_address: args.grpc_port.map(|port| SocketAddr::new(args.host, port)),
        tls,
        batching: Batching { most: 1, delay: Duration::ZERO, queue: 1 },
        limits,
        deadline: time(b.deadline),
        drain: time(b.drain),
        linger: time(b.linger),
        device_survives: false,
        model_control: args.model_control,
        further_routes,
    })
}

fn image_args(args: &ServeArgs) -> ImageArgs {
    let SizeArgs { size, max_size, apply_exif } = args.sizes;
    ImageArgs { batch_size: 1, size, max_size, apply_exif, max_pixels: args.behaviour.max_pixels }
}

/// Opens a model, and makes a way to open it again.
fn open(
    args: &ServeArgs,
    model: &OsStr,
    selected: &SelectedDevice,
    console: &Console,
) -> Result<ModelSource, CliError> {
    let (name, version, model) = split(model)?;
    let (load, images, device) = (args.load.clone(), image_args(args), args.device.clone());
    let selected = selected.clone();
    let options = PredictOptions {
        threshold: args.threshold,
        max_detections: args.max_detections,
        classes: args.classes.clone(),
        masks: false,
    };
    let wanted = options.clone();
    let open = move |console: &Console| {
        let on = selected.device.clone();
        let checkpoint = open_model_sized(&model, &load, images.sets_size(), console, || Ok(on))?;
        make_predictor(&checkpoint, &selected, &device, &images, wanted.clone())
    };
    let predictor = open(console)?;
    let load = Box::new(move || {
        let console = Console::new(&LogArgs { quiet: true, verbose: 0 });
        open(&console).map_err(|error: CliError| error.to_string())
    });
    Ok(ModelSource { name, version, predictor, options, load })
}

/// Splits `NAME@VERSION=PATH`, of which only the path must be there.
fn split(text: &OsStr) -> Result<(String, String, OsString), CliError> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            && !word.bytes().all(|byte| byte == b'.')
    };
    if let Some((label, path)) = text.to_str().and_then(|text| text.split_once('='))
        && !Path::new(text).exists()
    {
        let (name, version) = label.split_once('@').unwrap_or((label, "1"));
        if !is_word(name) || !is_word(version) || path.is_empty() {
            return Err(CliError::Usage(format!(
                "--model {}: expected PATH, NAME=PATH or NAME@VERSION=PATH, where names have letters, digits, `-`, `_` \
                 and `.`",
                text.display()
            )));
        }
        return Ok((name.to_owned(), version.to_owned(), path.into()));
    }
    let shown = text.to_string_lossy();
    let last = shown.trim_end_matches(['/', '\\']).rsplit(['/', '\\', ':']).next().unwrap_or("");
    let last =
        [".pth", ".safetensors"].iter().find_map(|end| last.strip_suffix(end)).unwrap_or(last);
    let clean = |character: char| {
        if character.is_ascii_alphanumeric() || "-_.".contains(character) { character } else { '-' }
    };
    let name: String = last.chars().map(clean).collect();
    let name = if is_word(&name) { name } else { "model".to_owned() };
    Ok((name, "1".to_owned(), text.to_owned()))
}

/// Stops the server at the first SIGINT or SIGTERM, ends the process at a second one, and reads the models again at
/// SIGHUP.
#[cfg(unix)]
fn catch_signals(control: Control) -> Result<(), CliError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let failed = |error| CliError::Failed(format!("cannot catch signals: {error}"));
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let listen = move || {
        for signal in signals.forever() {
            match signal {
                SIGHUP => reload(control.clone()),
                _ if control.is_stopping() => std::process::exit(130),
                _ => control.stop(),
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(failed)?;
    Ok(())
}

/// Reads the models again in a thread of its own, so that signals are heard meanwhile.
#[cfg(unix)]
fn reload(control: Control) {
    let work = move || {
        let failed = control.reload();
        for message in &failed {
            say(&format!("{message}\n"));
        }
        if failed.is_empty() {
            say("models are loaded again\n");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("reload".to_owned()).spawn(work) {
        say(&format!("models cannot be loaded again: {error}\n"));
    }
}

/// Stops the server at the first SIGINT, and ends the process at a second one.
#[cfg(not(unix))]
fn catch_signals(control: Control) -> Result<(), CliError> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use signal_hook::consts::SIGINT;
    let failed = |error| CliError::Failed(format!("cannot catch signals: {error}"));
    let signalled = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register_conditional_shutdown(SIGINT, 130, signalled.clone())
        .map_err(failed)?;
    signal_hook::flag::register(SIGINT, signalled.clone()).map_err(failed)?;
    let watch = move || {
        while !signalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        control.stop();
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_names_and_versions() {
        let parts = |text: &str| split(OsStr::new(text));
        for (text, name, version, path) in [
            ("assets/shapes", "shapes", "1", "assets/shapes"),
            ("a/detr-r50.pth", "detr-r50", "1", "a/detr-r50.pth"),
            ("recipe:detr-r18@3", "detr-r18-3", "1", "recipe:detr-r18@3"),
            ("cars=a/b.pth", "cars", "1", "a/b.pth"),
            ("cars@12=recipe:detr-r18", "cars", "12", "recipe:detr-r18"),
            ("/", "model", "1", "/"),
        ] {
            let found = parts(text).unwrap();
            assert_eq!(found, (name.to_owned(), version.to_owned(), path.into()), "{text}");
        }
        for text in ["=a", "a=", "../x=a", "a/b=c", "..=a", "a@=b", "a@../b=c"] {
            assert_eq!(parts(text).unwrap_err().exit_code(), 2, "{text}");
        }
    }
}
