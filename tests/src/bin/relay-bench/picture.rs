//! Pictures (SVG): rows of dots on a logarithmic axis, for light and for dark backgrounds.
//!
//! Owns: how they look. Must not know what is measured.

use std::fmt::Write as _;

/// One line of a picture.
pub(crate) struct Row {
    pub(crate) name: String,
    /// One for each series; zero: there is none.
    pub(crate) values: Vec<f64>,
}

/// All in pixels.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 78.0;
const ROW: f64 = 46.0;
const BOTTOM: f64 = 58.0;

/// Text and lines take the page's colours; dots have two shades each, of the same meaning.
const STYLE: &str = "<style>
text{font-family:sans-serif;font-size:13px;fill:#222}
.title{font-size:15px;font-weight:bold}.small{font-size:11px;fill:#555}
.grid{stroke:#ccc}.range{stroke:#888;stroke-width:2}
.s0{fill:#1b6ca8}.s1{fill:#c2571a}.s2{fill:#8a2d8c}
@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.small{fill:#aaa}.grid{stroke:#444}.range{stroke:#999}
.s0{fill:#6db7ee}.s1{fill:#f0965c}.s2{fill:#d48ad6}}
</style>";

/// A picture of these rows. `below`: a line under it.
pub(crate) fn dots(title: &str, below: &str, series: &[&str], rows: &[Row]) -> String {
    let values = || rows.iter().flat_map(|row| &row.values).copied().filter(|value| *value > 0.0);
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.1, f64::max).log10().ceil().max(low + 1.0);
    let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
    let across = |value: f64| LEFT + (value.log10() - low) / (high - low) * (WIDTH - LEFT - RIGHT);
    let height = TOP + ROW * rows.len() as f64 + BOTTOM;
    let end = height - BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\">\n{STYLE}\n\
         <text class=\"title\" x=\"10\" y=\"22\">{title}</text>\n"
    );
    let mut put = |line: String| writeln!(svg, "{line}").expect("it is memory");
    for (index, name) in series.iter().enumerate() {
        let x = LEFT + 90.0 * index as f64;
        put(format!(
            "<circle class=\"s{index}\" cx=\"{x}\" cy=\"44\" r=\"6\"/><text x=\"{}\" y=\"48\">{name}</text>",
            x + 12.0
        ));
    }
    for power in low as i32..=high as i32 {
        let (x, value) = (across(10f64.powi(power)), 10f64.powi(power));
        put(format!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{end}\"/>", TOP - 14.0));
        put(format!(
            "<text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            end + 16.0
        ));
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        put(format!("<text x=\"10\" y=\"{:.1}\">{}</text>", y + 4.0, row.name));
        let there = || row.values.iter().copied().filter(|value| *value > 0.0);
        let (least, most) = (there().fold(f64::INFINITY, f64::min), there().fold(0.0, f64::max));
        if most > 0.0 {
            put(format!(
                "<line class=\"range\" x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
                across(least),
                across(most)
            ));
        }
        for (series, value) in row.values.iter().enumerate().filter(|(_, value)| **value > 0.0) {
            let (x, digits) = (across(*value), if *value < 10.0 { 2 } else { 0 });
            // Labels change sides, so that dots close to each other keep theirs apart.
            let label = if series % 2 == 0 { y - 10.0 } else { y + 20.0 };
            put(format!("<circle class=\"s{series}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\"/>"));
            put(format!(
                "<text class=\"small\" x=\"{x:.1}\" y=\"{label:.1}\" text-anchor=\"middle\">{value:.digits$}</text>"
            ));
        }
    }
    put(format!(
        "<text class=\"small\" x=\"10\" y=\"{:.1}\">{below} Logarithmic; less is better.</text>\n</svg>",
        height - 12.0
    ));
    svg
}
