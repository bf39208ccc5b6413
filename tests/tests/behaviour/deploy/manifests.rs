//! The files for Compose and for Kubernetes.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::images::port;
use super::{files_named, read, routes, yaml};
use crate::support::{program, root};

const CPU: &str = "deploy/kubernetes/cpu";

/// Returns all values below a key, at any depth.
fn all_of<'a>(tree: &'a Value, key: &str) -> Vec<&'a Value> {
    let below: Vec<&Value> = match tree {
        Value::Object(map) => map.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    let here = tree.get(key).into_iter();
    here.chain(below.into_iter().flat_map(|value| all_of(value, key))).collect()
}

/// Returns the value at a JSON pointer.
fn at<'a>(tree: &'a Value, pointer: &str) -> &'a Value {
    tree.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {tree}"))
}

/// Returns the words of a list.
fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// Returns the flags of a command line.
fn flags<'a>(words: &[&'a str]) -> BTreeSet<&'a str> {
    let flags = words.iter().filter(|word| word.starts_with("--"));
    flags.map(|word| word.split('=').next().unwrap()).collect()
}

/// Returns the value of a flag.
fn after<'a>(words: &[&'a str], flag: &str) -> &'a str {
    let index = words.iter().position(|word| *word == flag);
    words[index.unwrap_or_else(|| panic!("{flag} is missing")) + 1]
}

/// Returns the containers of the `Deployment` and of the `ServingRuntime`.
fn containers() -> [Value; 2] {
    let deployment = yaml(format!("{CPU}/deployment.yaml"));
    let runtime = yaml("deploy/kserve/runtime.yaml");
    let pod = at(&deployment, "/spec/template/spec/containers/0");
    [pod.clone(), at(&runtime, "/spec/containers/0").clone()]
}

#[test]
fn every_file_is_yaml_and_names_its_kind() {
    for path in files_named(".yaml") {
        let tree = yaml(&path);
        assert!(tree.is_object(), "{}", path.display());
        let is_manifest = !["compose.train.yaml", "prometheus-adapter.yaml"]
            .contains(&path.file_name().unwrap().to_str().unwrap());
        for key in ["apiVersion", "kind"] {
            assert_eq!(tree[key].is_string(), is_manifest, "{}: {key}", path.display());
        }
    }
}

#[test]
fn kustomizations_name_files_that_exist() {
    for path in files_named("kustomization.yaml") {
        let folder = path.parent().unwrap();
        let tree = yaml(&path);
        for resource in words(&tree["resources"]) {
            assert!(folder.join(resource).exists(), "{}: {resource}", path.display());
        }
    }
    // A file in the folder that the list lacks would never be applied.
    let listed = yaml(format!("{CPU}/kustomization.yaml"));
    let listed: BTreeSet<&str> = words(&listed["resources"]).into_iter().collect();
    for path in files_named(".yaml") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_here = path.parent() == Some(&root().join(CPU)) && name != "kustomization.yaml";
        assert!(!is_here || listed.contains(name), "{name} is not applied");
    }
}

#[test]
fn probes_use_routes_of_the_server_and_its_port() {
    let routes = routes();
    for container in containers() {
        let port_of_container = &at(&container, "/ports/0")["containerPort"];
        let name_of_port = &at(&container, "/ports/0")["name"];
        assert_eq!(port_of_container, port());
        for (probe, route) in
            [("readinessProbe", "/v2/health/ready"), ("livenessProbe", "/v2/health/live")]
        {
            assert_eq!(at(&container, &format!("/{probe}/httpGet/path")), route);
        }
        for probe in all_of(&container, "httpGet") {
            let route = probe["path"].as_str().unwrap();
            assert!(routes.contains(route), "{route}");
            let is_its_port = probe["port"] == *name_of_port || probe["port"] == *port_of_container;
            assert!(is_its_port && !probe["port"].is_null(), "{probe}");
        }
        let args = words(&container["args"]);
        assert_eq!(after(&args, "--port"), port().to_string());
        // Inside a container, its own loopback is reached by nobody.
        assert_eq!(after(&args, "--host"), "0.0.0.0");
    }
    for path in files_named(".yaml") {
        for (key, value) in all_of(&yaml(&path), "annotations").iter().flat_map(|map| {
            map.as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str().unwrap()))
        }) {
            match key.rsplit('/').next() {
                Some("port") => assert_eq!(value, port().to_string(), "{}", path.display()),
                Some("path") => assert!(routes.contains(value), "{}: {value}", path.display()),
                _ => {}
            }
        }
    }
    let health = read("deploy/docker/server/health.sh");
    assert!(health.contains(&format!("AIP_HTTP_PORT:-{}", port())));
    assert!(routes.iter().any(|route| health.contains(&format!("route=${{2:-{route}}}"))));
}

#[test]
fn the_server_is_given_flags_that_it_has() {
    let help = program("detr", &["serve", "--help"]).run().expect(0).stdout;
    let is_flag = |flag: &str| help.contains(&format!(" {flag} "));
    for container in containers() {
        let args = words(&container["args"]);
        assert_eq!(args[0], "serve");
        for flag in flags(&args[1..]) {
            assert!(is_flag(flag), "{flag}");
        }
    }
    let start = read("deploy/docker/server/start.sh");
    for line in start.lines().filter(|line| line.contains("defaults+=(")) {
        let flag = line.split(['(', ' ', ')']).find(|word| word.starts_with("--")).unwrap();
        assert!(is_flag(flag), "{flag}");
    }
}

#[test]
fn the_training_is_given_flags_and_a_recipe_that_exist() {
    let compose = yaml("deploy/docker/compose.train.yaml");
    let command = words(at(&compose, "/services/train/command"));
    let help = program("detr", &[command[0], "--help"]).run();
    assert_eq!(help.code, 0, "{}", help.stderr);
    for flag in flags(&command) {
        let is_known = help.stdout.split([' ', '\n', ',']).any(|word| word == flag);
        assert!(is_known, "detr {} has no {flag}", command[0]);
    }
    let recipe = after(&command, "--config").replace("${RECIPE:-", "").replace('}', "");
    let text = read(&recipe);
    // The recipe looks for its data where the volume is mounted.
    let mounted = words(at(&compose, "/services/train/volumes"));
    let data = mounted.iter().find_map(|volume| volume.strip_prefix("coco:/training/")).unwrap();
    let data = data.split(':').next().unwrap();
    assert!(text.contains(&format!("path = \"../../{data}\"")), "{recipe}");
    let backbone = command.iter().find_map(|word| word.strip_prefix("model.backbone=")).unwrap();
    let file = Path::new(backbone).file_name().unwrap().to_str().unwrap();
    assert!(read("deploy/docker/coco/fetch-coco.sh").contains(file), "{file}");
}

#[test]
fn selectors_ports_and_the_metric_of_kubernetes_agree() {
    let read = |name: &str| yaml(format!("{CPU}/{name}.yaml"));
    let deployment = read("deployment");
    let service = read("service");
    let labels = at(&deployment, "/spec/template/metadata/labels");
    for (tree, pointer) in [
        (&deployment, "/spec/selector/matchLabels"),
        (&service, "/spec/selector"),
        (&read("disruption"), "/spec/selector/matchLabels"),
        (&read("network"), "/spec/podSelector/matchLabels"),
    ] {
        for (label, value) in at(tree, pointer).as_object().unwrap() {
            assert_eq!(labels.get(label), Some(value), "{pointer}");
        }
    }
    let name = at(&deployment, "/spec/template/spec/containers/0/ports/0/name");
    assert_eq!(at(&service, "/spec/ports/0/targetPort"), name);
    assert_eq!(at(&read("network"), "/spec/ingress/0/ports/0/port"), port());

    let autoscaler = read("autoscaler");
    for key in ["kind", "apiVersion"] {
        assert_eq!(at(&autoscaler, "/spec/scaleTargetRef")[key], deployment[key]);
    }
    assert_eq!(at(&autoscaler, "/spec/scaleTargetRef/name"), at(&deployment, "/metadata/name"));
    let metric = at(&autoscaler, "/spec/metrics/0/pods/metric/name");
    let adapter = yaml("deploy/kubernetes/prometheus-adapter.yaml");
    assert_eq!(at(&adapter, "/rules/custom/0/name/as"), metric);
    let query = at(&adapter, "/rules/custom/0/seriesQuery").as_str().unwrap();
    assert!(query.starts_with(metric.as_str().unwrap()), "{query}");
    // Two replicas at least, or an eviction waits for ever.
    assert!(at(&autoscaler, "/spec/minReplicas").as_u64() >= Some(2));
}

#[test]
fn pods_are_confined_and_have_time_to_drain() {
    let deployment = yaml(format!("{CPU}/deployment.yaml"));
    let pod = at(&deployment, "/spec/template/spec");
    let user = at(pod, "/securityContext/runAsUser");
    assert_eq!(at(pod, "/securityContext/runAsNonRoot"), true);
    for container in containers() {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(words(at(context, "/capabilities/drop")), ["ALL"]);
        // A server writes to its home and to /tmp, which a read-only root needs volumes for.
        let mounts = all_of(&container, "mountPath");
        assert!(["/home/detr", "/tmp"].iter().all(|path| mounts.iter().any(|at| *at == path)));
    }
    let docker = read("deploy/docker/cpu.Dockerfile");
    assert!(docker.contains(&format!("USER {user}:{user}")), "another user than the image's");
    let grace = at(pod, "/terminationGracePeriodSeconds").as_u64().unwrap();
    for container in containers() {
        let [deadline, linger, drain] = ["--deadline", "--linger", "--drain"]
            .map(|flag| after(&words(&container["args"]), flag).parse::<u64>().unwrap());
        assert!(drain > deadline, "requests would be cut off");
        assert!(grace >= linger + drain + 10, "{grace} s are too short for {linger} + {drain} s");
    }
    let service = yaml("deploy/kserve/service.yaml");
    let other = at(&service, "/spec/predictor/terminationGracePeriodSeconds").as_u64();
    assert_eq!(other, Some(grace));
    let runtime = yaml("deploy/kserve/runtime.yaml");
    assert_eq!(at(&service, "/spec/predictor/model/runtime"), at(&runtime, "/metadata/name"));
    let format = "/spec/supportedModelFormats/0/name";
    assert_eq!(at(&service, "/spec/predictor/model/modelFormat/name"), at(&runtime, format));
}
