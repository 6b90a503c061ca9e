//! Rules in CEL. Owns what a rule is given and what its failure says; the language is a library's.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cel::extractors::This;
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value as Cel};
use serde_json::Value;

use super::pattern;

/// Our own `matches`, under another name: the library's reads its pattern anew each time.
const MATCHES: &str = "matchesOnceRead";

/// A value that rules are about: made once for all rules of a place, when the first of them asks.
pub(super) struct Subject<'a> {
    schema: &'a Value,
    value: &'a Value,
    typed: OnceCell<Cel>,
}

impl<'a> Subject<'a> {
    /// The value of this schema.
    pub(super) fn new(schema: &'a Value, value: &'a Value) -> Self {
        Self { schema, value, typed: OnceCell::new() }
    }

    fn typed(&self) -> Cel {
        self.typed.get_or_init(|| typed(self.schema, self.value)).clone()
    }
}

/// Whether a rule holds for a value, in place of the one that stands; else what it says.
///
/// A rule about what stood holds where nothing stood.
pub(super) fn holds(rule: &Value, value: &Subject<'_>, stands: Option<&Subject<'_>>) -> Result<(), String> {
    let text = rule["rule"].as_str().unwrap_or_default();
    let compared = text.contains("oldSelf");
    if compared && stands.is_none() {
        return Ok(());
    }
    let program = program(text)?;
    let mut context = Context::with_env(Arc::clone(language()));
    // Of Kubernetes' own functions our rules use these.
    let is_ip = |text: Arc<String>| text.parse::<std::net::IpAddr>().is_ok();
    context.add_function("isIP", is_ip).map_err(|error| error.to_string())?;
    let is_cidr = |text: Arc<String>| is_cidr(&text);
    context.add_function("isCIDR", is_cidr).map_err(|error| error.to_string())?;
    let matches = |This(text): This<Arc<String>>, it: Arc<String>| pattern::found(&it, &text);
    context.add_function(MATCHES, matches).map_err(|error| error.to_string())?;
    context.add_variable_from_value("self", value.typed());
    if let Some(stands) = stands.filter(|_| compared) {
        context.add_variable_from_value("oldSelf", stands.typed());
    }
    match program.execute(&context) {
        Ok(Cel::Bool(true)) => Ok(()),
        Ok(Cel::Bool(false)) => {
            Err(rule["message"].as_str().map_or_else(|| format!("failed rule: {text}"), str::to_owned))
        }
        Ok(other) => Err(format!("the rule {text} gives no truth: {other:?}")),
        Err(error) => Err(format!("{error} evaluating rule: {text}")),
    }
}

/// Whether this is an address with the length of a prefix, as Go reads them: digits alone, and none to spare.
fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let plain = length == "0" || !length.starts_with(['0', '+']);
    let mapped = matches!(address, std::net::IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    plain && !mapped && length.parse::<u8>().is_ok_and(|length| length <= longest)
}

/// The language without what we add, made once for all.
fn language() -> &'static Arc<Env> {
    static MADE: OnceLock<Arc<Env>> = OnceLock::new();
    MADE.get_or_init(|| Arc::new(Env::stdlib()))
}

/// The rule, read once for all.
fn program(text: &str) -> Result<Arc<Program>, String> {
    static READ: OnceLock<Mutex<BTreeMap<String, Arc<Program>>>> = OnceLock::new();
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = read.get(text) {
        return Ok(Arc::clone(program));
    }
    let ours = text.replace(".matches(", &format!(".{MATCHES}("));
    let program = Program::compile(&ours).map_err(|error| format!("the rule {text} cannot be read: {error}"))?;
    let program = Arc::new(program);
    read.insert(text.to_owned(), Arc::clone(&program));
    Ok(program)
}

/// The value as rules see it: typed by its schema, and without what is null.
fn typed(schema: &Value, value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) if schema["type"] != "number" => Cel::Int(whole),
            (_, number) => Cel::Float(number.unwrap_or_default()),
        },
        Value::String(text) if schema["format"] == "date-time" => chrono::DateTime::parse_from_rfc3339(text)
            .map_or_else(|_| Cel::String(Arc::new(text.clone())), Cel::Timestamp),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(|item| typed(&schema["items"], item)).collect())),
        Value::Object(fields) => {
            let below = |name: &str| schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
            let known = fields.iter().filter(|(_, value)| !value.is_null());
            let map: HashMap<Key, Cel> =
                known.map(|(name, value)| (Key::String(Arc::new(name.clone())), typed(below(name), value))).collect();
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rule: &str, value: Value, stands: Option<Value>) -> Result<(), String> {
        let schema = json!({"properties": {"at": {"type": "string", "format": "date-time"}}});
        let stands = stands.as_ref().map(|stands| Subject::new(&schema, stands));
        holds(&json!({"rule": rule, "message": "no"}), &Subject::new(&schema, &value), stands.as_ref())
    }

    #[test]
    fn rules_of_our_kinds_are_understood() {
        for (rule, value, holds) in [
            ("has(self.a) == has(self.b)", json!({}), true),
            ("has(self.a)", json!({"a": null}), false),
            ("!self.matches('[\\\\x00-\\\\x1f\\\\x{200b}]')", json!("plain"), true),
            ("!self.matches('[\\\\x00-\\\\x1f\\\\x{200b}]')", json!("a\u{200b}b"), false),
            ("self.matches('^([0-9]{1,6}(h|m|s)){1,3}$') && duration(self) <= duration('8760h')", json!("1h30m"), true),
            (
                "self.matches('^([0-9]{1,6}(h|m|s)){1,3}$') && duration(self) <= duration('8760h')",
                json!("8761h"),
                false,
            ),
            ("timestamp(self) > timestamp('2000-01-01T00:00:00Z')", json!("2026-01-01T00:00:00+02:00"), true),
            ("self.p in ['A', 'B']", json!({"p": "B"}), true),
            ("self.at == timestamp('2026-01-01T00:00:00Z')", json!({"at": "2026-01-01T01:00:00+01:00"}), true),
            ("self >= 1 && self <= 65535", json!(70000), false),
            ("isIP(self) || self.startsWith('a') && !self.contains('..')", json!("192.0.2.1"), true),
            ("isIP(self) || self.startsWith('a') && !self.contains('..')", json!("a..b"), false),
        ] {
            assert_eq!(check(rule, value.clone(), None).is_ok(), holds, "{rule} of {value}");
        }
    }

    #[test]
    fn a_rule_about_what_stood_holds_where_nothing_stood() {
        let rule = "self.a == oldSelf.a";
        assert_eq!(check(rule, json!({"a": 1}), None), Ok(()));
        assert_eq!(check(rule, json!({"a": 1}), Some(json!({"a": 2}))), Err("no".to_owned()));
        assert!(check(rule, json!({}), Some(json!({}))).is_err(), "a field that is not there is no truth");
    }
}
