//! The names of a ResNet's tensors in folders of Hugging Face's transformers.

/// Returns the official name of a tensor, within the backbone. timm's names are official; those of
/// transformers' own ResNet are translated, and `None` if they are malformed.
pub(crate) fn official_name(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("embedder.embedder.") {
        let (module, field) = rest.split_once('.')?;
        return Some(format!("{}.{field}", if module == "convolution" { "conv1" } else { "bn1" }));
    }
    let Some(rest) = name.strip_prefix("encoder.stages.") else {
        return Some(name.to_owned());
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let (stage, block, at) = match parts[..] {
        [stage, "layers", block, ..] => (stage.parse::<usize>().ok()? + 1, block, 3),
        _ => return None,
    };
    let module = |index: Option<usize>, module: &str| {
        Some(match (index, module) {
            (Some(index), "convolution") => format!("conv{}", index + 1),
            (Some(index), "normalization") => format!("bn{}", index + 1),
            (None, "convolution") => "downsample.0".to_owned(),
            (None, "normalization") => "downsample.1".to_owned(),
            _ => return None,
        })
    };
    let (module, field) = match parts[at..] {
        ["layer", index, name, field] => (module(Some(index.parse().ok()?), name)?, field),
        ["shortcut", name, field] => (module(None, name)?, field),
        _ => return None,
    };
    Some(format!("layer{stage}.{block}.{module}.{field}"))
}
