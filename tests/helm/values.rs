//! Every value does what it says: each has a case here, those of the prefect-worker chart and those of ours.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::chart::{self, with};

/// One value set: where, to what, and what is then rendered that is not without it. An empty text: nothing changes.
type Case = (&'static str, Value, &'static str);

/// The values of the prefect-worker chart with their defaults.
const REFERENCE: &str = include_str!("reference.json");

#[track_caller]
fn check(under: &Value, cases: Vec<Case>) {
    let under = with(under);
    let before = chart::render(&under).text;
    for (path, value, wanted) in cases {
        let mut values = under.clone();
        chart::merge(&mut values, &chart::at(path, value));
        let after = chart::render(&values).text;
        if wanted.is_empty() {
            assert_eq!(before, after, "{path} has an effect");
            continue;
        }
        assert!(
            !before.contains(wanted),
            "{wanted:?} is there without {path}"
        );
        assert!(
            after.contains(wanted),
            "{wanted:?} is not there with {path}: {after}"
        );
    }
}

/// The name of a container or a volume of somebody's own, filled from the release.
fn own() -> Value {
    json!([{"name": "own-{{ .Release.Name }}"}])
}

fn names() -> Vec<Case> {
    vec![
        (
            "nameOverride",
            json!("other"),
            "app.kubernetes.io/name: other",
        ),
        ("fullnameOverride", json!("other"), "name: other\n"),
        ("namespaceOverride", json!("there"), "namespace: \"there\""),
        (
            "commonLabels",
            json!({"team": "{{ .Release.Name }}-team"}),
            "team: 'release-team'",
        ),
        (
            "commonAnnotations",
            json!({"note": "kept"}),
            "annotations:\n    note: kept",
        ),
        (
            "serviceAccount.create",
            json!(false),
            "serviceAccountName: default",
        ),
        (
            "serviceAccount.name",
            json!("account"),
            "serviceAccountName: account",
        ),
        (
            "serviceAccount.annotations",
            json!({"role": "arn"}),
            "role: arn",
        ),
        ("role.namespace", json!("jobs"), "namespace: \"jobs\""),
        (
            "role.namespaces",
            json!(["one", "two"]),
            "namespace: \"two\"",
        ),
        (
            "role.secrets",
            json!(false),
            "name: WORKER_KUBERNETES_SECRETS\n              value: none",
        ),
        (
            "role.extraPermissions",
            json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]),
            "- configmaps",
        ),
        (
            "pools",
            json!([{"name": "gpu", "worker": {"config": {"workPool": "gpus"}}}]),
            "name: prefect-worker-gpu",
        ),
    ]
}

#[test]
fn names_and_rights() {
    check(&json!({}), names());
    for (path, kind) in [
        ("role.create", "Role"),
        ("rolebinding.create", "RoleBinding"),
    ] {
        let values = with(&chart::at(path, json!(false)));
        assert!(chart::render(&values).all(kind).is_empty(), "{path}");
    }
}

fn image_and_command() -> Vec<Case> {
    vec![
        (
            "worker.image.repository",
            json!("registry.example/worker"),
            "image: \"registry.example/worker:",
        ),
        (
            "worker.image.tag",
            json!("1.2.3"),
            "image: \"worker:1.2.3\"",
        ),
        ("worker.image.pullPolicy", json!("Never"), "Policy: Never"),
        (
            "worker.image.pullSecrets",
            json!(["mine"]),
            "imagePullSecrets:\n        - name: mine",
        ),
        (
            "worker.image.debug",
            json!(true),
            "PREFECT_DEBUG_MODE\n              value: \"true\"",
        ),
        (
            "worker.command",
            json!(["/wrap"]),
            "command:\n            - /wrap",
        ),
        (
            "worker.args",
            json!(["prefect", "worker", "start", "--pool", "mine"]),
            "args:\n            - --pool\n            - mine",
        ),
        (
            "worker.extraArgs",
            json!(["--stop-grace", 10]),
            "- \"--stop-grace\"\n            - \"10\"",
        ),
        (
            "worker.extraEnvVars",
            json!([{"name": "MINE", "value": "{{ .Release.Name }}"}]),
            "- name: MINE\n              value: 'release'",
        ),
        (
            "worker.extraEnvVarsCM",
            json!("one"),
            "configMapRef:\n                name: one",
        ),
        (
            "worker.extraEnvVarsCMs",
            json!(["two"]),
            "configMapRef:\n                name: two",
        ),
        (
            "worker.extraEnvVarsSecret",
            json!("one"),
            "secretRef:\n                name: one",
        ),
        (
            "worker.extraEnvVarsSecrets",
            json!(["two"]),
            "secretRef:\n                name: two",
        ),
    ]
}

#[test]
fn image_command_and_environment() {
    check(&json!({}), image_and_command());
    let own_image = chart::at("worker.image.repository", json!("registry.example/worker"));
    let case = (
        "worker.image.prefectTag",
        json!("9"),
        "registry.example/worker:9",
    );
    check(&own_image, vec![case]);
}

fn config() -> Vec<Case> {
    vec![
        ("worker.config.workPool", json!("other"), "- \"other\""),
        (
            "worker.config.workQueues",
            json!(["a", "b"]),
            "- --work-queue\n            - \"b\"",
        ),
        (
            "worker.config.queryInterval",
            json!(2.5),
            "PREFECT_WORKER_QUERY_SECONDS\n              value: \"2.5\"",
        ),
        (
            "worker.config.prefetchSeconds",
            json!(0),
            "PREFECT_WORKER_PREFETCH_SECONDS\n              value: \"0\"",
        ),
        (
            "worker.config.http2",
            json!(false),
            "PREFECT_API_ENABLE_HTTP2\n              value: \"false\"",
        ),
        (
            "worker.config.type",
            json!("process"),
            "- --type\n            - \"process\"",
        ),
        ("worker.config.installPolicy", json!("never"), ""),
        (
            "worker.config.name",
            json!("mine"),
            "- --name\n            - \"mine\"",
        ),
        (
            "worker.config.limit",
            json!(1_000_000),
            "- --limit\n            - \"1000000\"",
        ),
        (
            "worker.config.jobNamespace",
            json!("a,b"),
            "OBSERVER_NAMESPACES\n              value: \"a,b\"",
        ),
        (
            "worker.config.observerClusterWide",
            json!(true),
            "kind: ClusterRoleBinding",
        ),
        (
            "worker.config.pullImage",
            json!("worker:1"),
            "WORKER_KUBERNETES_PULL_IMAGE\n              value: \"worker:1\"",
        ),
        (
            "worker.config.baseJobTemplate.existingConfigMapName",
            json!("mine"),
            "configMap:\n            name: mine",
        ),
        (
            "worker.config.baseJobTemplate.configuration",
            json!("{\"variables\": {}}"),
            r#"baseJobTemplate.json: "{\"variables\": {}}""#,
        ),
        (
            "worker.clusterUid",
            json!("uid"),
            "PREFECT_KUBERNETES_CLUSTER_UID\n              value: \"uid\"",
        ),
        ("worker.drainSeconds", json!(90), "- 90s"),
        (
            "worker.terminationGracePeriodSeconds",
            json!(77),
            "terminationGracePeriodSeconds: 77",
        ),
        (
            "worker.logging.level",
            json!("debug"),
            "WORKER_LOGGING_LEVEL\n              value: \"debug\"",
        ),
        ("worker.logging.json", json!(true), "WORKER_LOGGING_JSON"),
        (
            "worker.policy.allowCommand",
            json!(false),
            "WORKER_POLICY_ALLOW_COMMAND\n              value: \"false\"",
        ),
        (
            "worker.policy.allowEnvironmentPlaceholders",
            json!(false),
            "WORKER_POLICY_ALLOW_ENVIRONMENT_PLACEHOLDERS",
        ),
        (
            "worker.tls.caSecret.name",
            json!("ca"),
            "secretName: ca\n            items:\n              - key: ca.crt",
        ),
        (
            "worker.proxy.http",
            json!("http://p"),
            "HTTP_PROXY\n              value: \"http://p\"",
        ),
        (
            "worker.proxy.https",
            json!("http://p"),
            "HTTPS_PROXY\n              value: \"http://p\"",
        ),
        (
            "worker.proxy.noProxy",
            json!(".svc"),
            "NO_PROXY\n              value: \".svc\"",
        ),
    ]
}

#[test]
fn what_the_worker_does() {
    check(&json!({}), config());
    let template = chart::at(
        "worker.config.baseJobTemplate.configuration",
        json!({"variables": {}}),
    );
    let case = (
        "worker.config.baseJobTemplate.name",
        json!("mine"),
        "configMap:\n            name: mine",
    );
    check(&template, vec![case]);
    let ca = chart::at("worker.tls.caSecret.name", json!("ca"));
    check(
        &ca,
        vec![(
            "worker.tls.caSecret.key",
            json!("other.crt"),
            "key: other.crt",
        )],
    );
}

fn cloud() -> Vec<Case> {
    let key_from = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_CREATE_SECRET_FOR_API_KEY";
    vec![
        (
            "worker.cloudApiConfig.accountId",
            json!("else"),
            "https://api.prefect.cloud/api/accounts/else/workspaces/w",
        ),
        (
            "worker.cloudApiConfig.workspaceId",
            json!("else"),
            "https://api.prefect.cloud/api/accounts/a/workspaces/else",
        ),
        (
            "worker.cloudApiConfig.cloudUrl",
            json!("https://cloud.example/api"),
            "https://cloud.example/api/accounts/a/workspaces/w",
        ),
        (
            "worker.cloudApiConfig.apiKeySecret.name",
            json!("mine"),
            "API_KEY_SECRET_NAME\n              value: mine",
        ),
        (
            "worker.cloudApiConfig.apiKeySecret.key",
            json!("mine"),
            "name: prefect-api-key\n                  key: mine",
        ),
        (
            "worker.cloudApiConfig.jobApiKeyPropagation",
            json!("autoSecret"),
            key_from,
        ),
    ]
}

fn customer_managed_cloud() -> Vec<Case> {
    let key_from = "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_CREATE_SECRET_FOR_API_KEY";
    vec![
        (
            "worker.customerManagedCloudApiConfig.apiUrl",
            json!("https://else.example/api"),
            "https://else.example/api/accounts/a/workspaces/w",
        ),
        (
            "worker.customerManagedCloudApiConfig.accountId",
            json!("else"),
            "https://own.example/api/accounts/else/workspaces/w",
        ),
        (
            "worker.customerManagedCloudApiConfig.workspaceId",
            json!("else"),
            "https://own.example/api/accounts/a/workspaces/else",
        ),
        (
            "worker.customerManagedCloudApiConfig.apiKeySecret.name",
            json!("mine"),
            "API_KEY_SECRET_NAME\n              value: mine",
        ),
        (
            "worker.customerManagedCloudApiConfig.apiKeySecret.key",
            json!("mine"),
            "name: prefect-api-key\n                  key: mine",
        ),
        (
            "worker.customerManagedCloudApiConfig.jobApiKeyPropagation",
            json!("autoSecret"),
            key_from,
        ),
        (
            "worker.customerManagedCloudApiConfig.cloudApiUrl",
            json!("https://own.example/api"),
            "PREFECT_CLOUD_API_URL\n              value: \"https://own.example/api\"",
        ),
        (
            "worker.customerManagedCloudApiConfig.cloudUiUrl",
            json!("https://own.example"),
            "PREFECT_CLOUD_UI_URL\n              value: \"https://own.example\"",
        ),
    ]
}

fn server() -> Vec<Case> {
    vec![
        (
            "worker.selfHostedServerApiConfig.apiUrl",
            json!("http://else.example/api"),
            "PREFECT_API_URL\n              value: \"http://else.example/api\"",
        ),
        (
            "worker.selfHostedServerApiConfig.basicAuth.enabled",
            json!(true),
            "auth-string: \"admin:pass\"",
        ),
    ]
}

#[test]
fn where_the_api_is() {
    let ids = json!({"accountId": "a", "workspaceId": "w"});
    check(
        &json!({"worker": {"apiConfig": "cloud", "cloudApiConfig": ids}}),
        cloud(),
    );
    let mut own = json!({"apiUrl": "https://own.example/api"});
    chart::merge(&mut own, &ids);
    let own = json!({"worker": {
        "apiConfig": "customerManagedCloud", "customerManagedCloudApiConfig": own,
    }});
    check(&own, customer_managed_cloud());
    check(&json!({}), server());
    let auth = "worker.selfHostedServerApiConfig.basicAuth";
    let basic = chart::at(auth, json!({"enabled": true}));
    check(
        &basic,
        vec![
            (
                "worker.selfHostedServerApiConfig.basicAuth.authString",
                json!("me:mine"),
                "auth-string: \"me:mine\"",
            ),
            (
                "worker.selfHostedServerApiConfig.basicAuth.existingSecret",
                json!("mine"),
                "name: mine\n                  key: auth-string",
            ),
        ],
    );
    let key_in_manifest = json!({"worker": {"apiConfig": "cloud", "cloudApiConfig": {
        "accountId": "a", "workspaceId": "w", "jobApiKeyPropagation": "envVar",
    }}});
    let text = chart::render(&with(&key_in_manifest)).text;
    assert!(!text.contains("KUBERNETES_WORKER_API_KEY"), "{text}");
}

fn pod() -> Vec<Case> {
    vec![
        ("worker.replicaCount", json!(2), "kind: StatefulSet"),
        (
            "worker.revisionHistoryLimit",
            json!(3),
            "revisionHistoryLimit: 3",
        ),
        (
            "worker.strategy",
            json!({"type": "RollingUpdate"}),
            "type: RollingUpdate",
        ),
        (
            "worker.lifecycle",
            json!({"preStop": {"exec": {"command": ["x"]}}}),
            "preStop:",
        ),
        (
            "worker.topologySpreadConstraints",
            json!([{"maxSkew": 1}]),
            "topologySpreadConstraints: \n        - maxSkew: 1",
        ),
        (
            "worker.resources.requests.memory",
            json!("64Mi"),
            "memory: 64Mi",
        ),
        ("worker.resources.requests.cpu", json!("30m"), "cpu: 30m"),
        (
            "worker.resources.limits.memory",
            json!("2Gi"),
            "memory: 2Gi",
        ),
        ("worker.resources.limits.cpu", json!("2"), "cpu: \"2\""),
        (
            "worker.podSecurityContext.runAsUser",
            json!(1_000_650_000),
            "runAsUser: 1000650000",
        ),
        (
            "worker.podSecurityContext.runAsNonRoot",
            json!(false),
            "runAsNonRoot: false",
        ),
        ("worker.podSecurityContext.fsGroup", json!(7), "fsGroup: 7"),
        (
            "worker.podSecurityContext.seccompProfile.type",
            json!("Localhost"),
            "type: Localhost",
        ),
        (
            "worker.containerSecurityContext.runAsUser",
            json!(7),
            "runAsUser: 7",
        ),
        (
            "worker.containerSecurityContext.runAsNonRoot",
            json!(false),
            "runAsNonRoot: false",
        ),
        (
            "worker.containerSecurityContext.readOnlyRootFilesystem",
            json!(false),
            "readOnlyRootFilesystem: false",
        ),
        (
            "worker.containerSecurityContext.allowPrivilegeEscalation",
            json!(true),
            "allowPrivilegeEscalation: true",
        ),
        (
            "worker.containerSecurityContext.capabilities.drop",
            json!(["NET_RAW"]),
            "- NET_RAW",
        ),
        (
            "worker.priorityClassName",
            json!("high"),
            "priorityClassName: high",
        ),
        ("worker.dnsPolicy", json!("Default"), "dnsPolicy: Default"),
        (
            "worker.dnsConfig.nameservers",
            json!(["10.0.0.10"]),
            "nameservers:\n        - 10.0.0.10",
        ),
        (
            "worker.dnsConfig.searches",
            json!(["svc.local"]),
            "searches:\n        - svc.local",
        ),
        (
            "worker.dnsConfig.options",
            json!([{"name": "ndots", "value": "2"}]),
            "options:\n        - name: ndots\n          value: \"2\"",
        ),
        (
            "worker.podLabels",
            json!({"team": "{{ .Release.Name }}"}),
            "team: 'release'",
        ),
        (
            "worker.podAnnotations",
            json!({"note": "kept"}),
            "note: kept",
        ),
        (
            "worker.affinity",
            json!({"nodeAffinity": {}}),
            "nodeAffinity: {}",
        ),
        ("worker.nodeSelector", json!({"disk": "ssd"}), "disk: ssd"),
        ("worker.tolerations", json!([{"key": "gpu"}]), "- key: gpu"),
        (
            "worker.podDisruptionBudget",
            json!({"minAvailable": 1}),
            "minAvailable: 1",
        ),
        ("worker.extraContainers", own(), "name: own-release"),
        ("worker.extraVolumes", own(), "name: own-release"),
        ("worker.extraVolumeMounts", own(), "name: own-release"),
        (
            "worker.initContainer.extraContainers",
            own(),
            "initContainers:\n        - name: own-release",
        ),
        (
            "worker.initContainer.resources",
            json!({"limits": {"cpu": "1"}}),
            "",
        ),
        (
            "worker.initContainer.containerSecurityContext",
            json!({"runAsUser": 7}),
            "",
        ),
        (
            "worker.initContainer.extraEnvVars",
            json!([{"name": "A", "value": "b"}]),
            "",
        ),
        ("worker.autoscaling.enabled", json!(true), "HorizontalPod"),
    ]
}

fn autoscaling() -> Vec<Case> {
    vec![
        ("worker.autoscaling.minReplicas", json!(2), "minReplicas: 2"),
        ("worker.autoscaling.maxReplicas", json!(9), "maxReplicas: 9"),
        (
            "worker.autoscaling.targetCPUUtilizationPercentage",
            json!(61),
            "averageUtilization: 61",
        ),
        (
            "worker.autoscaling.targetMemoryUtilizationPercentage",
            json!(62),
            "averageUtilization: 62",
        ),
    ]
}

#[test]
fn how_the_pod_is_run() {
    check(&json!({}), pod());
    let scaled = chart::at(
        "worker.autoscaling",
        json!({"enabled": true, "maxReplicas": 4}),
    );
    check(&scaled, autoscaling());
}

fn probes() -> Vec<Case> {
    vec![
        ("worker.startupProbe.enabled", json!(true), "startupProbe:"),
        (
            "worker.livenessProbe.config.initialDelaySeconds",
            json!(91),
            "initialDelaySeconds: 91",
        ),
        (
            "worker.livenessProbe.config.periodSeconds",
            json!(92),
            "periodSeconds: 92",
        ),
        (
            "worker.livenessProbe.config.timeoutSeconds",
            json!(93),
            "timeoutSeconds: 93",
        ),
        (
            "worker.livenessProbe.config.failureThreshold",
            json!(94),
            "failureThreshold: 94",
        ),
        (
            "worker.livenessProbe.config.successThreshold",
            json!(95),
            "successThreshold: 95",
        ),
        (
            "worker.readinessProbe.config.periodSeconds",
            json!(92),
            "periodSeconds: 92",
        ),
        (
            "worker.readinessProbe.config.timeoutSeconds",
            json!(93),
            "timeoutSeconds: 93",
        ),
        (
            "worker.readinessProbe.config.failureThreshold",
            json!(94),
            "failureThreshold: 94",
        ),
    ]
}

fn startup_probe() -> Vec<Case> {
    vec![
        (
            "worker.startupProbe.config.periodSeconds",
            json!(92),
            "periodSeconds: 92",
        ),
        (
            "worker.startupProbe.config.failureThreshold",
            json!(94),
            "failureThreshold: 94",
        ),
    ]
}

#[test]
fn probes_are_on_and_can_be_turned_off() {
    check(&json!({}), probes());
    let startup = chart::at("worker.startupProbe.enabled", json!(true));
    check(&startup, startup_probe());
    for probe in ["livenessProbe", "readinessProbe"] {
        let path = format!("worker.{probe}.enabled");
        let on = chart::render(&chart::needed());
        assert!(!on.pods()[0]["containers"][0][probe].is_null(), "{probe}");
        let off = chart::render(&with(&chart::at(&path, json!(false))));
        assert!(off.pods()[0]["containers"][0][probe].is_null(), "{probe}");
    }
}

fn monitoring() -> Vec<Case> {
    vec![
        ("metrics.service.port", json!(9000), "port: 9000"),
        (
            "metrics.service.annotations",
            json!({"scrape": "yes"}),
            "scrape: \"yes\"",
        ),
        (
            "metrics.podMonitor.enabled",
            json!(true),
            "kind: PodMonitor",
        ),
        (
            "metrics.prometheusRule.enabled",
            json!(true),
            "alert: WorkerDoesNotPoll",
        ),
        ("networkPolicy.enabled", json!(true), "kind: NetworkPolicy"),
    ]
}

fn monitoring_in_detail() -> Vec<Case> {
    vec![
        (
            "metrics.podMonitor.labels",
            json!({"prometheus": "main"}),
            "prometheus: main",
        ),
        ("metrics.podMonitor.interval", json!("11s"), "interval: 11s"),
        (
            "metrics.podMonitor.scrapeTimeout",
            json!("7s"),
            "scrapeTimeout: 7s",
        ),
        (
            "metrics.podMonitor.relabelings",
            json!([{"action": "drop"}]),
            "relabelings:\n        - action: drop",
        ),
        (
            "metrics.podMonitor.metricRelabelings",
            json!([{"action": "keep"}]),
            "metricRelabelings:\n        - action: keep",
        ),
        (
            "metrics.prometheusRule.labels",
            json!({"rules": "main"}),
            "rules: main",
        ),
        (
            "metrics.prometheusRule.scheduleLagSeconds",
            json!(17),
            "> 17",
        ),
        (
            "networkPolicy.metricsFrom",
            json!([{"podSelector": {}}]),
            "from:\n        - podSelector: {}",
        ),
        (
            "networkPolicy.kubernetesApiPorts",
            json!([16443]),
            "- port: 16443",
        ),
        (
            "networkPolicy.extraEgress",
            json!([{"ports": [{"port": 3128}]}]),
            "- port: 3128",
        ),
    ]
}

#[test]
fn monitoring_and_network() {
    check(&json!({}), monitoring());
    let none = with(&chart::at("metrics.service.enabled", json!(false)));
    assert!(chart::render(&none).all("Service").is_empty());
    let everything = json!({
        "metrics": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}},
        "networkPolicy": {"enabled": true},
    });
    check(&everything, monitoring_in_detail());
    let text = chart::render(&with(&everything)).text;
    assert!(
        text.contains("- port: 4200"),
        "the API's port is closed: {text}"
    );
}

// === all of them ===

/// Values that are checked elsewhere than in a table.
const ELSEWHERE: [&str; 6] = [
    "worker.apiConfig",
    "worker.livenessProbe.enabled",
    "worker.readinessProbe.enabled",
    "role.create",
    "rolebinding.create",
    "metrics.service.enabled",
];

/// The paths of all values in a tree.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (name, value) in map {
                let path = format!("{path}.{name}");
                leaves(value, path.trim_start_matches('.'), found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

#[test]
fn every_value_has_a_case_and_every_case_a_value() {
    let text =
        std::fs::read_to_string(chart::folder().join("values.yaml")).expect("the chart has values");
    let values: Value = serde_saphyr::from_str(&text).expect("they are YAML");
    let mut there = BTreeSet::new();
    leaves(&values, "", &mut there);
    let mut checked: BTreeSet<String> = ELSEWHERE.map(str::to_owned).into();
    let tables = [
        names(),
        image_and_command(),
        config(),
        cloud(),
        customer_managed_cloud(),
        server(),
        pod(),
        autoscaling(),
        probes(),
        startup_probe(),
        monitoring(),
        monitoring_in_detail(),
    ];
    let paths = tables.iter().flatten().map(|(path, ..)| (*path).to_owned());
    checked.extend(paths);
    checked.extend(
        [
            "worker.image.prefectTag",
            "worker.config.baseJobTemplate.name",
            "worker.tls.caSecret.key",
            "worker.selfHostedServerApiConfig.basicAuth.authString",
            "worker.selfHostedServerApiConfig.basicAuth.existingSecret",
        ]
        .map(str::to_owned),
    );
    assert_eq!(there, checked);
}

#[test]
fn all_values_of_the_other_chart_are_taken() {
    let mut values: Value = serde_json::from_str(REFERENCE).expect("the values are JSON");
    chart::merge(&mut values, &chart::needed());
    let release = chart::render(&values);
    let container = &release.pods()[0]["containers"][0];
    // The Python worker's image has no program of ours, and its values file names it without meaning to.
    let image = container["image"].as_str().unwrap_or_default();
    assert!(image.starts_with("worker:"), "{image}");
    let variables = container["env"].as_array().expect("there are variables");
    let value = |name: &str| -> &Value {
        let found = variables.iter().find(|variable| variable["name"] == name);
        &found.unwrap_or_else(|| panic!("{name} is not set"))["value"]
    };
    for (name, wanted) in [
        ("PREFECT_API_URL", "http://prefect.example:4200/api"),
        ("PREFECT_WORKER_QUERY_SECONDS", "5"),
        ("PREFECT_WORKER_PREFETCH_SECONDS", "10"),
        ("PREFECT_API_ENABLE_HTTP2", "true"),
        ("PREFECT_DEBUG_MODE", "false"),
        (
            "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES",
            "default",
        ),
    ] {
        assert_eq!(value(name), wanted, "{name}");
    }
    assert!(
        container["livenessProbe"].is_null(),
        "it was turned off there"
    );
}

#[test]
fn the_chart_is_without_complaint() {
    chart::helm(&["lint", "--strict"], &chart::needed()).expect("helm lint finds nothing");
}
