//! Every environment variable that the program reads, in one place.

/// Folder of Hugging Face's caches; the default is `~/.cache/huggingface`.
pub const HF_HOME: &str = "HF_HOME";
/// Folder of downloaded models, used as it is; wins over `hub` in the folder of [`HF_HOME`].
pub const HF_HUB_CACHE: &str = "HF_HUB_CACHE";
/// Set to 1 to forbid the network, as in Hugging Face's tools.
pub const HF_HUB_OFFLINE: &str = "HF_HUB_OFFLINE";
/// Set to 1 to forbid the network.
pub const DETR_OFFLINE: &str = "DETR_OFFLINE";
/// Address of the model hub, for mirrors; the default is `https://huggingface.co`.
pub const HF_ENDPOINT: &str = "HF_ENDPOINT";
/// Access token for gated or private models.
pub const HF_TOKEN: &str = "HF_TOKEN";
/// Folder of what the program remembers of this machine; the default is `~/.cache/detr`.
pub const DETR_CACHE: &str = "DETR_CACHE";
/// A token that clients of `detr serve` must send, besides those of `--token-file`.
pub const DETR_SERVE_TOKEN: &str = "DETR_SERVE_TOKEN";
/// The name of a server among others for OpenTelemetry, whose standard this is.
pub const OTEL_SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// The port that `SageMaker` sends requests to.
pub const SAGEMAKER_BIND_TO_PORT: &str = "SAGEMAKER_BIND_TO_PORT";
/// The port that Vertex AI sends requests to.
pub const AIP_HTTP_PORT: &str = "AIP_HTTP_PORT";
/// The path of Vertex AI's health checks.
pub const AIP_HEALTH_ROUTE: &str = "AIP_HEALTH_ROUTE";
/// The path of Vertex AI's predictions.
pub const AIP_PREDICT_ROUTE: &str = "AIP_PREDICT_ROUTE";
/// Turns colours off when set to anything (<https://no-color.org>).
pub const NO_COLOR: &str = "NO_COLOR";
/// Folder of sockets of a Linux desktop, which graphics drivers look for.
pub const XDG_RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";
/// Folder of Windows.
pub const SYSTEM_ROOT: &str = "SystemRoot";
/// The folders that the dynamic linker searches first.
pub const LD_LIBRARY_PATH: &str = "LD_LIBRARY_PATH";
/// Folder of the golden cases that the parity tests run.
pub const DETR_GOLDEN_DIR: &str = "DETR_GOLDEN_DIR";
/// Set to 1 to run every golden case on every backend.
pub const DETR_GOLDEN_ALL: &str = "DETR_GOLDEN_ALL";
/// Set to print the largest difference of every golden tensor.
pub const DETR_GOLDEN_VERBOSE: &str = "DETR_GOLDEN_VERBOSE";
/// Set to 1 to make a missing wgpu adapter a test failure instead of a skip.
pub const DETR_REQUIRE_WGPU: &str = "DETR_REQUIRE_WGPU";

/// A folder of pictures, for the test that runs every preset in another engine.
pub const DETR_TEST_PICTURES: &str = "DETR_TEST_PICTURES";
/// A Python with onnx and onnxruntime, for tests that run exported files in another engine.
pub const DETR_TEST_PYTHON: &str = "DETR_TEST_PYTHON";
/// A folder for a virtual environment of Python, for a test of other people's clients. If there is none it is made, with
/// the packages of `tests/tests/behaviour/serve/requirements.txt`.
pub const DETR_TEST_CLIENTS: &str = "DETR_TEST_CLIENTS";
/// A Chromium, for a test of the server's page; it needs `DETR_TEST_CLIENTS`, too.
pub const DETR_TEST_BROWSER: &str = "DETR_TEST_BROWSER";
/// The number of random stops in the tests of interrupted runs; a few if not set.
pub const DETR_TEST_STOPS: &str = "DETR_TEST_STOPS";
/// The commit that the program was built of, where the one who built it set `DETR_COMMIT` then.
pub const BUILD_COMMIT: Option<&str> = option_env!("DETR_COMMIT");

/// Returns whether a variable is set to something other than nothing, `0`, `false`, `no` or `off`.
#[must_use]
pub fn is_on(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| {
        !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false" | "no" | "off")
    })
}
