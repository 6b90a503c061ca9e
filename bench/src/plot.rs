//! Pictures of what was measured, as SVG. Owns axes and colours; what is measured is the scenarios'.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

/// One side's points.
pub struct Series {
    /// Whose they are.
    pub name: &'static str,
    /// Where they are.
    pub points: Vec<(f64, f64)>,
}

/// A picture: points of both sides over one axis.
pub struct Picture<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What the horizontal axis is, with its unit.
    pub across: &'a str,
    /// What the vertical axis is, with its unit.
    pub up: &'a str,
    /// Whether each point is joined to the next.
    pub joined: bool,
    /// The points.
    pub series: Vec<Series>,
}

const COLOURS: [RGBColor; 2] = [RGBColor(31, 111, 180), RGBColor(214, 96, 20)];

impl Picture<'_> {
    /// Draws it into this file.
    ///
    /// # Errors
    /// When the file cannot be written, or there is nothing to draw.
    pub fn draw(&self, file: &Path) -> Result<()> {
        sheet(file, std::slice::from_ref(self))
    }

    fn draw_on(&self, area: &Area<'_>) -> Result<()> {
        let all = || self.series.iter().flat_map(|series| &series.points).filter(|(_, y)| y.is_finite());
        if all().next().is_none() {
            return Ok(());
        }
        let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.05;
        let (width, height) = (most(|(x, _)| *x), most(|(_, y)| *y));
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..width, 0.0..height)
            .map_err(failed)?;
        chart.configure_mesh().x_desc(self.across).y_desc(self.up).draw().map_err(failed)?;
        for (series, colour) in self.series.iter().zip(COLOURS) {
            let points = || series.points.iter().copied().filter(|(_, y)| y.is_finite());
            if self.joined {
                chart.draw_series(LineSeries::new(points(), colour.stroke_width(2))).map_err(failed)?;
            }
            chart
                .draw_series(points().map(|at| Circle::new(at, 2, colour.filled())))
                .map_err(failed)?
                .label(series.name)
                .legend(move |at| Circle::new(at, 4, colour.filled()));
        }
        let mut names = chart.configure_series_labels();
        names.position(SeriesLabelPosition::UpperLeft).border_style(BLACK).background_style(WHITE);
        names.draw().map_err(failed)
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws pictures into one file, two in a row where there is more than one.
///
/// # Errors
/// When the file cannot be written.
pub fn sheet(file: &Path, pictures: &[Picture<'_>]) -> Result<()> {
    let columns = pictures.len().clamp(1, 2);
    let rows = pictures.len().div_ceil(columns);
    let size = (if columns == 1 { 900 } else { 1120 }, u32::try_from(rows)? * 420);
    let root = SVGBackend::new(file, size).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    for (area, picture) in root.split_evenly((rows, columns)).iter().zip(pictures) {
        picture.draw_on(area)?;
    }
    root.present().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a picture cannot be drawn: {error}")
}
