//! What every instance has whatever its template says, and what it has where its template says nothing. Owns the merge of
//! a template with the installation's own words; whether the result may run is `template`'s.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Limits and requests by the name of the resource, as Kubernetes writes quantities.
pub type Amounts = BTreeMap<String, String>;

/// What the installation says of every instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardening {
    /// The runtime class of every instance, such as a sandbox's.
    pub runtime_class_name: Option<String>,
    /// The priority class of every instance.
    pub priority_class_name: Option<String>,
    /// Whether each instance has users of its own, so that none inside is one of the node's (KEP-127).
    pub user_namespaces: bool,
    /// The limits of a container that names none, nor its pod; what it requests beyond them is its limit.
    pub limits: Amounts,
    /// The requests of such a container, where it names none.
    pub requests: Amounts,
}

impl Default for Hardening {
    fn default() -> Self {
        let memory = |amount: &str| Amounts::from([("memory".to_owned(), amount.to_owned())]);
        Self {
            runtime_class_name: None,
            priority_class_name: None,
            user_namespaces: false,
            limits: memory("4Gi"),
            requests: memory("64Mi"),
        }
    }
}

impl Hardening {
    /// The PodSpec of an instance: the template's, with what it leaves unwritten filled in as the Pod Security Standard
    /// `restricted` wants it, and with what no template may change. What is no PodSpec stays what it is.
    pub fn merged(&self, template: &Map<String, Value>) -> Map<String, Value> {
        let mut spec = template.clone();
        // The API server refuses these fields in a pod for Windows.
        let is_windows = template.get("os").is_some_and(|os| os["name"] == "windows");
        within(&mut spec, "securityContext", |security| {
            fill(security, "runAsNonRoot", || json!(true));
            if !is_windows {
                fill(security, "seccompProfile", || json!({ "type": "RuntimeDefault" }));
            }
        });
        let of_pod = spec.get("resources").cloned().unwrap_or_default();
        for list in ["initContainers", "containers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for container in containers.filter_map(Value::as_object_mut) {
                if !is_windows {
                    within(container, "securityContext", restrict);
                }
                within(container, "resources", |resources| self.bound(resources, &of_pod));
            }
        }
        spec.insert("automountServiceAccountToken".to_owned(), json!(false));
        spec.insert("enableServiceLinks".to_owned(), json!(false));
        spec.extend(self.mandatory().map(|(field, value)| (field.to_owned(), value)));
        spec
    }

    /// What the template says against what every instance has here, in sentences that name the field and the mend.
    pub fn contradictions(&self, template: &Map<String, Value>) -> Vec<String> {
        let differs =
            |field: &str, value: &Value| template.get(field).is_some_and(|said| !said.is_null() && said != value);
        let refusal = |(field, value): (&str, Value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("spec.template.spec.{field} is {value} for every instance of this installation: remove it")
        };
        self.mandatory().filter(|(field, value)| differs(field, value)).map(refusal).collect()
    }

    /// All of it in one line, so that a verdict on a template says under which words it was given.
    pub fn words(&self) -> String {
        let amounts = |what: &str, amounts: &Amounts| {
            let all = amounts.iter().map(|(name, amount)| format!(" {name}={amount}")).collect::<String>();
            if all.is_empty() { Vec::new() } else { vec![format!("{what}{all}")] }
        };
        let fixed = self.mandatory().map(|(field, value)| format!("{field} {value}").replace('"', ""));
        let filled = [amounts("limits", &self.limits), amounts("requests", &self.requests)];
        let all: Vec<String> = fixed.chain(filled.into_iter().flatten()).collect();
        if all.is_empty() { "no bounds".to_owned() } else { all.join(", ") }
    }

    /// The fields that are the same in every instance, by this installation's settings.
    fn mandatory(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let class = |name: &Option<String>| name.as_ref().map(|name| json!(name));
        [
            ("runtimeClassName", class(&self.runtime_class_name)),
            ("priorityClassName", class(&self.priority_class_name)),
            ("hostUsers", self.user_namespaces.then_some(json!(false))),
        ]
        .into_iter()
        .filter_map(|(field, value)| Some((field, value?)))
    }

    /// Bounds a container where neither it nor its pod as a whole names the resource.
    fn bound(&self, resources: &mut Map<String, Value>, of_pod: &Value) {
        let names: BTreeSet<&String> = self.limits.keys().chain(self.requests.keys()).collect();
        for name in names {
            let written = |of: &Value, list: &str| {
                of.get(list).and_then(|list| list.get(name)).filter(|it| !it.is_null()).cloned()
            };
            let is_bounded = written(of_pod, "limits").is_some();
            let own = Value::Object(resources.clone());
            if is_bounded || written(&own, "limits").is_some() {
                continue;
            }
            let limit = self.limits.get(name);
            match (written(&own, "requests"), limit) {
                // What it asks for is what it needs at least.
                (Some(request), Some(limit)) => {
                    let request = request.as_str().map_or_else(|| request.to_string(), str::to_owned);
                    let limit = if amount(&request) > amount(limit) { request } else { limit.clone() };
                    set(resources, "limits", name, limit);
                }
                (Some(_), None) => {}
                (None, limit) => {
                    let request = self.requests.get(name);
                    let fits = |request: &&String| {
                        let within = limit.is_none_or(|limit| amount(request) <= amount(limit));
                        within && written(of_pod, "requests").is_none()
                    };
                    if let Some(request) = request.filter(fits) {
                        set(resources, "requests", name, request.clone());
                    }
                    if let Some(limit) = limit {
                        set(resources, "limits", name, limit.clone());
                    }
                }
            }
        }
    }
}

/// What `restricted` wants of a container. Further capabilities to drop stay; `ALL` goes over them.
fn restrict(security: &mut Map<String, Value>) {
    fill(security, "allowPrivilegeEscalation", || json!(false));
    fill(security, "readOnlyRootFilesystem", || json!(true));
    within(security, "capabilities", |capabilities| {
        fill(capabilities, "drop", || json!([]));
        if let Some(dropped) = capabilities.get_mut("drop").and_then(Value::as_array_mut)
            && !dropped.iter().any(|name| name == "ALL")
        {
            dropped.push(json!("ALL"));
        }
    });
}

/// Writes a field that is unwritten.
fn fill(object: &mut Map<String, Value>, field: &str, value: impl FnOnce() -> Value) {
    if object.get(field).is_none_or(Value::is_null) {
        object.insert(field.to_owned(), value());
    }
}

/// Changes the object in a field, which becomes one if it is unwritten; anything else there is left alone.
fn within(object: &mut Map<String, Value>, field: &str, change: impl FnOnce(&mut Map<String, Value>)) {
    fill(object, field, || json!({}));
    if let Some(inner) = object.get_mut(field).and_then(Value::as_object_mut) {
        change(inner);
        if inner.is_empty() {
            object.remove(field);
        }
    }
}

fn set(resources: &mut Map<String, Value>, list: &str, name: &str, amount: String) {
    within(resources, list, |list| drop(list.insert(name.to_owned(), Value::String(amount))));
}

/// How much a quantity is, in its unit; nothing for a text that is none. Near enough to tell which of two is larger.
///
/// The grammar is that of Kubernetes' `resource.Quantity`.
pub fn amount(quantity: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let suffixed = SUFFIXES.iter().find_map(|(suffix, factor)| Some((quantity.strip_suffix(suffix)?, *factor)));
    let (digits, factor) = suffixed.unwrap_or((quantity, 1.0));
    // What Rust reads beside numbers, such as `inf`, has other letters than the `e` of an exponent.
    let is_number = digits.chars().all(|letter| letter.is_ascii_digit() || "+-.eE".contains(letter));
    digits.parse::<f64>().ok().filter(|number| is_number && *number >= 0.0).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(hardening: &Hardening, template: Value) -> Value {
        Value::Object(hardening.merged(template.as_object().unwrap()))
    }

    fn container(hardening: &Hardening, resources: Value) -> Value {
        let template = json!({ "containers": [{ "name": "main", "image": "i", "resources": resources }] });
        merged(hardening, template)["containers"][0]["resources"].take()
    }

    #[test]
    fn what_a_template_leaves_unwritten_is_filled_in_restricted() {
        let spec = merged(&Hardening::default(), json!({ "containers": [{ "name": "main", "image": "i" }] }));
        let expected = json!({
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "main", "image": "i",
                "resources": { "limits": { "memory": "4Gi" }, "requests": { "memory": "64Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
                },
            }],
        });
        assert_eq!(spec, expected);
        assert_eq!(merged(&Hardening::default(), spec.clone()), spec, "merged twice is merged once");
    }

    #[test]
    fn what_a_template_writes_stays_but_for_what_no_template_decides() {
        let template = json!({
            "automountServiceAccountToken": true, "enableServiceLinks": true, "runtimeClassName": "runc",
            "securityContext": { "runAsUser": 7, "seccompProfile": { "type": "Localhost", "localhostProfile": "p" } },
            "initContainers": [{ "name": "first", "image": "i", "securityContext": { "capabilities": { "drop": ["CHOWN"] } } }],
            "containers": [{ "name": "main", "image": "i", "securityContext": { "readOnlyRootFilesystem": false } }],
        });
        let hardening = Hardening {
            runtime_class_name: Some("gvisor".to_owned()),
            priority_class_name: Some("workspaces".to_owned()),
            user_namespaces: true,
            ..Hardening::default()
        };
        let spec = merged(&hardening, template.clone());
        assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "Localhost");
        assert_eq!(spec["securityContext"]["runAsUser"], 7);
        assert_eq!(spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"], false);
        assert_eq!(spec["initContainers"][0]["securityContext"]["capabilities"]["drop"], json!(["CHOWN", "ALL"]));
        for (field, value) in [
            ("automountServiceAccountToken", json!(false)),
            ("enableServiceLinks", json!(false)),
            ("runtimeClassName", json!("gvisor")),
            ("priorityClassName", json!("workspaces")),
            ("hostUsers", json!(false)),
        ] {
            assert_eq!(spec[field], value, "{field}");
        }
        assert_eq!(
            hardening.contradictions(template.as_object().unwrap()),
            ["spec.template.spec.runtimeClassName is gvisor for every instance of this installation: remove it"]
        );
        let agreeing = json!({ "runtimeClassName": "gvisor", "priorityClassName": null, "hostUsers": false });
        assert_eq!(hardening.contradictions(agreeing.as_object().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn a_pod_for_windows_gets_no_field_that_windows_does_not_have() {
        let template = json!({ "os": { "name": "windows" }, "containers": [{ "name": "main", "image": "i" }] });
        let spec = merged(&Hardening::default(), template);
        assert_eq!(spec["securityContext"], json!({ "runAsNonRoot": true }));
        assert_eq!(spec["containers"][0]["securityContext"], Value::Null);
    }

    #[test]
    fn a_container_without_bounds_gets_those_of_the_installation() {
        let hardening = Hardening::default();
        for (written, expected) in [
            (json!(null), json!({ "limits": { "memory": "4Gi" }, "requests": { "memory": "64Mi" } })),
            (json!({ "limits": { "memory": "1Gi" } }), json!({ "limits": { "memory": "1Gi" } })),
            (
                json!({ "requests": { "memory": "1Gi" } }),
                json!({ "requests": { "memory": "1Gi" }, "limits": { "memory": "4Gi" } }),
            ),
            // It gets at least what it asks for.
            (
                json!({ "requests": { "memory": "8Gi" } }),
                json!({ "requests": { "memory": "8Gi" }, "limits": { "memory": "8Gi" } }),
            ),
            (
                json!({ "requests": { "cpu": "1m" } }),
                json!({ "requests": { "cpu": "1m", "memory": "64Mi" }, "limits": { "memory": "4Gi" } }),
            ),
            // What is no quantity is told by the API server.
            (json!({ "limits": "much" }), json!({ "limits": "much", "requests": { "memory": "64Mi" } })),
        ] {
            assert_eq!(container(&hardening, written.clone()), expected, "{written}");
        }
        let none = Hardening { limits: Amounts::new(), requests: Amounts::new(), ..hardening };
        assert_eq!(container(&none, json!(null)), json!(null));
        let of_pod = json!({
            "resources": { "limits": { "memory": "1Gi" } }, "containers": [{ "name": "main", "image": "i" }],
        });
        assert_eq!(merged(&Hardening::default(), of_pod)["containers"][0].get("resources"), None);
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, number) in [
            ("0", Some(0.0)),
            ("1500m", Some(1.5)),
            ("1.5", Some(1.5)),
            ("1Ki", Some(1024.0)),
            ("2M", Some(2e6)),
            ("1e3", Some(1e3)),
            ("1E", Some(1e18)),
            ("1E3", Some(1e3)),
            ("-1", None),
            ("inf", None),
            ("", None),
            ("many", None),
        ] {
            assert_eq!(amount(text), number, "{text}");
        }
    }
}
