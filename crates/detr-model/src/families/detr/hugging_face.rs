//! The names of `DetrForSegmentation`'s mask head in Hugging Face's transformers.

/// Returns the official name of a tensor of the mask head; names before transformers 5 are the official ones.
pub(super) fn mask_head_name(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("bbox_attention.") {
        let rest = match rest.split_once('.')? {
            ("q_proj", end) => format!("q_linear.{end}"),
            ("k_proj", end) => format!("k_linear.{end}"),
            _ => rest.to_owned(),
        };
        return Some(format!("bbox_attention.{rest}"));
    }
    let rest = name.strip_prefix("mask_head.")?;
    let parts: Vec<&str> = rest.split('.').collect();
    let ours = match parts[..] {
        [block @ ("conv1" | "conv2"), part, end] => layer(block.strip_prefix("conv")?, part, end),
        ["fpn_stages", index, "fpn_adapter", end] => {
            Some(format!("adapter{}.{end}", index.parse::<u8>().ok()?.checked_add(1)?))
        }
        ["fpn_stages", index, "refine", part, end] => {
            layer(&index.parse::<u8>().ok()?.checked_add(3)?.to_string(), part, end)
        }
        ["output_conv", end] => Some(format!("out_lay.{end}")),
        _ => None,
    };
    Some(format!("mask_head.{}", ours.as_deref().unwrap_or(rest)))
}

/// Names the convolution or the normalisation of a layer.
fn layer(number: &str, part: &str, end: &str) -> Option<String> {
    match part {
        "conv" => Some(format!("lay{number}.{end}")),
        "norm" => Some(format!("gn{number}.{end}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_names_become_the_official_ones() {
        for (theirs, ours) in [
            ("bbox_attention.q_linear.bias", "bbox_attention.q_linear.bias"),
            ("bbox_attention.k_proj.weight", "bbox_attention.k_linear.weight"),
            ("mask_head.lay3.weight", "mask_head.lay3.weight"),
            ("mask_head.adapter2.bias", "mask_head.adapter2.bias"),
            ("mask_head.conv1.conv.weight", "mask_head.lay1.weight"),
            ("mask_head.conv2.norm.bias", "mask_head.gn2.bias"),
            ("mask_head.fpn_stages.0.fpn_adapter.weight", "mask_head.adapter1.weight"),
            ("mask_head.fpn_stages.0.refine.conv.bias", "mask_head.lay3.bias"),
            ("mask_head.fpn_stages.2.refine.norm.weight", "mask_head.gn5.weight"),
            ("mask_head.output_conv.weight", "mask_head.out_lay.weight"),
            ("mask_head.mystery.weight", "mask_head.mystery.weight"),
        ] {
            assert_eq!(mask_head_name(theirs).as_deref(), Some(ours));
        }
        assert_eq!(mask_head_name("model.decoder.norm.bias"), None);
    }
}
