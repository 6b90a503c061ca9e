//! A measured value beside what it may be. Owns when a budget counts as missed, and how values are printed.

use serde_json::{Value, json};

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// At most this.
    Most(f64),
    /// At most so many times what the floor took.
    TimesFloor(f64),
    /// At least this share of what the floor managed.
    OfFloor(f64),
    /// Anything: it is told, not judged.
    Told,
}

/// One measured value.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// The value.
    pub value: f64,
    /// The same of the floor, in the same run.
    pub floor: Option<f64>,
    /// What it may be.
    pub budget: Budget,
    /// Whether it depends on how fast this machine is just now: a smoke run does not judge those.
    pub timed: bool,
}

impl Figure {
    /// A number of things, which is the same on every machine.
    pub fn count(name: impl Into<String>, unit: &'static str, value: f64, budget: Budget) -> Self {
        Self { name: name.into(), unit, value, floor: None, budget, timed: false }
    }

    /// Something that depends on the machine.
    pub fn timed(name: impl Into<String>, unit: &'static str, value: f64, budget: Budget) -> Self {
        Self { timed: true, ..Self::count(name, unit, value, budget) }
    }

    /// The same of the floor.
    pub fn beside(self, floor: f64) -> Self {
        Self { floor: Some(floor), ..self }
    }

    /// The value as a multiple of the floor's; of a floor of nothing there is none.
    pub fn ratio(&self) -> Option<f64> {
        self.floor.filter(|floor| *floor != 0.0).map(|floor| self.value / floor)
    }

    /// Whether it is within its budget; a value that is no number is in none.
    pub fn holds(&self) -> bool {
        match (self.budget, self.ratio()) {
            (Budget::Most(most), _) => self.value <= most,
            (Budget::TimesFloor(most), Some(ratio)) => ratio <= most,
            (Budget::OfFloor(least), Some(ratio)) => ratio >= least,
            (Budget::TimesFloor(_) | Budget::OfFloor(_), None) => false,
            (Budget::Told, _) => true,
        }
    }

    /// One line of the table. `judged` says whether a missed budget is marked.
    pub fn line(&self, judged: bool) -> String {
        let Self { name, unit, value, .. } = self;
        let floor = self.floor.map_or_else(String::new, |floor| format!("{floor:.2}"));
        let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
        let budget = match self.budget {
            Budget::Most(most) => format!("<= {most}"),
            Budget::TimesFloor(most) => format!("<= {most}x"),
            Budget::OfFloor(least) => format!(">= {least}x"),
            Budget::Told => String::new(),
        };
        let verdict = match (judged, self.holds()) {
            (_, true) => "",
            (true, false) => "MISSED",
            (false, false) => "(not judged)",
        };
        let line = format!("  {name:<52} {value:>9.2} {unit:<9} {floor:>9} {ratio:>8} {budget:>8} {verdict}");
        line.trim_end().to_owned()
    }

    /// For a program.
    pub fn to_json(&self, judged: bool) -> Value {
        let budget = match self.budget {
            Budget::Most(most) => json!({"atMost": most}),
            Budget::TimesFloor(most) => json!({"atMostTimesFloor": most}),
            Budget::OfFloor(least) => json!({"atLeastTimesFloor": least}),
            Budget::Told => Value::Null,
        };
        json!({
            "name": self.name, "unit": self.unit, "value": self.value, "floor": self.floor, "ratio": self.ratio(),
            "budget": budget, "judged": judged, "holds": self.holds(),
        })
    }
}

/// The heading of the table.
pub fn heading() -> String {
    format!("  {:<52} {:>9} {:<9} {:>9} {:>8} {:>8}", "", "value", "", "floor", "ratio", "budget").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_missed_by_what_is_over_it_under_it_or_no_number() {
        let figure = |value, budget| Figure::timed("it", "ms", value, budget);
        assert!(figure(5.0, Budget::Most(5.0)).holds());
        assert!(!figure(5.1, Budget::Most(5.0)).holds());
        assert!(!figure(f64::INFINITY, Budget::Most(5.0)).holds());
        assert!(!figure(f64::NAN, Budget::Most(5.0)).holds());
        assert!(figure(15.0, Budget::TimesFloor(1.5)).beside(10.0).holds());
        assert!(!figure(16.0, Budget::TimesFloor(1.5)).beside(10.0).holds());
        assert!(!figure(1.0, Budget::TimesFloor(1.5)).beside(f64::NAN).holds());
        assert!(!figure(1.0, Budget::TimesFloor(1.5)).holds(), "a ratio to nothing is none");
        assert!(figure(7.0, Budget::OfFloor(0.7)).beside(10.0).holds());
        assert!(!figure(6.0, Budget::OfFloor(0.7)).beside(10.0).holds());
    }

    #[test]
    fn a_line_says_what_was_missed_only_where_it_is_judged() {
        let slow = Figure::timed("latency", "ms", 20.0, Budget::TimesFloor(1.5)).beside(10.0);
        assert!(slow.line(true).ends_with("2.00x  <= 1.5x MISSED"), "{}", slow.line(true));
        assert!(slow.line(false).ends_with("(not judged)"));
    }
}
