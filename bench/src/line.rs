//! A straight line through what was measured: what there is at nothing, and what each more costs.

/// The line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Its height at nothing.
    pub begin: f64,
    /// How much higher it is for each more.
    pub slope: f64,
}

impl Line {
    /// The line whose squared distances from the points are least. Through one point it is level.
    pub fn through(points: &[(f64, f64)]) -> Self {
        let count: f64 = points.iter().map(|_| 1.0).sum();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|at| at.0), mean(|at| at.1));
        let width: f64 = points.iter().map(|at| (at.0 - x).powi(2)).sum();
        let rise: f64 = points.iter().map(|at| (at.0 - x) * (at.1 - y)).sum();
        let slope = if width > 0.0 { rise / width } else { 0.0 };
        Self { begin: y - slope * x, slope }
    }

    /// In words: so much of a unit at nothing, and so much more for so many together, which are given with their number.
    pub fn words(self, unit: &str, (many, count): (&str, f64)) -> String {
        format!("{:.2} {unit}, and {:+.2} {unit} for each {many}", self.begin, self.slope * count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_points_that_lie_on_one_and_between_those_that_do_not() {
        let near = |line: Line, begin: f64, slope: f64| (line.begin - begin).abs() + (line.slope - slope).abs() < 1e-9;
        assert!(near(Line::through(&[(1.0, 5.0), (2.0, 7.0), (10.0, 23.0)]), 3.0, 2.0));
        assert!(near(Line::through(&[(0.0, 1.0), (0.0, 3.0), (4.0, 2.0)]), 2.0, 0.0));
        assert!(near(Line::through(&[(7.0, 4.0)]), 4.0, 0.0), "one point has no slope");
        assert!(Line::through(&[]).begin.is_nan(), "nothing is no line");
    }

    #[test]
    fn words_tell_what_many_cost_together() {
        let words = Line { begin: 20.0, slope: 0.01 }.words("MiB", ("1,000 sessions", 1000.0));
        assert_eq!(words, "20.00 MiB, and +10.00 MiB for each 1,000 sessions");
    }
}
