//! The recipes: they can be read, fit their models, and do the sums that their comments show.

use burn::tensor::Device;
use detr_model::ModelConfig;
use detr_model::weights::expected_tensors;

use super::{load, recipes};

#[test]
fn every_recipe_is_read_and_fits_its_model() {
    for path in recipes() {
        let config = load(&path);
        let name = path.display();
        let model = ModelConfig::preset(&config.model.arch).unwrap();
        let step = config.train.step(&model);
        step.validate().unwrap();
        // Patterns that match nothing would be refused only after the data was read. Shapes alone are
        // asked for, so that no weights are drawn.
        let names = expected_tensors(&model.init(&Device::flex()));
        let groups = step.parameters.groups.iter().flat_map(|group| &group.patterns);
        for pattern in groups.chain(&step.parameters.frozen) {
            let matches = names.iter().any(|(name, _)| name.contains(pattern.as_str()));
            assert!(matches, "{name}: {pattern}");
        }
        // The text is the command that users are told to copy, at the path that it is told for.
        let text = std::fs::read_to_string(&path).unwrap();
        let file = format!("configs/train/{}", path.file_name().unwrap().to_str().unwrap());
        assert!(text.starts_with("# "), "{name} does not say what it is");
        for command in text.split("--config ").skip(1) {
            assert!(command.starts_with(&file), "{name}: {command}");
        }
    }
}

#[test]
fn published_rates_and_batches_are_those_of_the_papers() {
    for (recipe, batch, [lr, backbone], epochs, drop) in [
        ("detr-r50-150ep", 16, [1e-4, 1e-5], 150, 100),
        ("detr-r50-300ep", 16, [1e-4, 1e-5], 300, 200),
        ("detr-r50-500ep", 64, [1e-4, 1e-5], 500, 400),
        ("detr-r50-dc5", 64, [1e-4, 1e-5], 500, 400),
        ("deformable-detr-r50", 16, [1e-4, 1e-5], 50, 40),
        ("deformable-detr-r50-50ep", 32, [2e-4, 2e-5], 50, 40),
        ("deformable-detr-r50-refine", 32, [2e-4, 2e-5], 50, 40),
        ("deformable-detr-r50-single-scale", 32, [2e-4, 2e-5], 50, 40),
        ("deformable-detr-r50-single-scale-dc5", 32, [2e-4, 2e-5], 50, 40),
        ("deformable-detr-r50-two-stage", 32, [2e-4, 2e-5], 50, 40),
    ] {
        let path = crate::support::root().join(format!("configs/train/{recipe}.toml"));
        let config = load(&path);
        let train = &config.train;
        assert_eq!(config.data.loader.batch_size * train.accumulate, batch, "{recipe}");
        let step = train.step(&ModelConfig::preset(&config.model.arch).unwrap());
        let group = step.parameters.groups.iter().find(|group| group.name == "backbone").unwrap();
        assert_eq!((step.parameters.lr, group.lr), (lr, Some(backbone)), "{recipe}");
        assert_eq!((step.parameters.weight_decay, step.clip_max_norm), (1e-4, 0.1), "{recipe}");
        assert_eq!(train.epochs, epochs, "{recipe}");
        // One drop to a tenth.
        for (epoch, factor) in [(0, 1.0), (drop - 1, 1.0), (drop, 0.1), (epochs - 1, 0.1)] {
            assert!((train.schedule.factor(0, epoch) - factor).abs() < 1e-12, "{recipe} {epoch}");
        }
        let sampling = step.parameters.groups.iter().find(|group| group.name == "sampling");
        let reduced = recipe.starts_with("deformable") && recipe != "deformable-detr-r50";
        assert_eq!(sampling.and_then(|group| group.lr_factor), reduced.then_some(0.1), "{recipe}");
    }
}

#[test]
fn the_sums_in_the_comments_are_right() {
    let number = |text: &str| text.trim_end_matches([',', ';', '.', ':']).parse::<f64>().ok();
    let mut sums = 0;
    for path in recipes() {
        let text = std::fs::read_to_string(&path).unwrap();
        let config = load(&path);
        for line in text.lines().filter(|line| line.contains('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for five in words.windows(5) {
                let [a, "*", b, "=", c] = five else { continue };
                let (Some(a), Some(b), Some(c)) = (number(a), number(b), number(c)) else {
                    panic!("{}: {line}", path.display())
                };
                assert!((a * b - c).abs() <= 1e-9 * c, "{}: {line}", path.display());
                sums += 1;
                if line.contains("images a step") && line.starts_with("accumulate") {
                    let batch = config.data.loader.batch_size * config.train.accumulate;
                    assert_eq!(batch.to_string(), c.to_string(), "{}: {line}", path.display());
                }
            }
        }
    }
    assert!(sums >= 13, "{sums}");
}
