//! Figures of drivers for monitoring.

/// A figure of a driver for monitoring: its state, a temperature.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gauge {
    /// Its name in lower case, words joined by `_`, the unit last. Metrics show it as
    /// `jumpstarter_NAME`.
    pub name: &'static str,
    /// A one-line description; the same for every gauge of that name.
    pub help: &'static str,
    /// Labels that distinguish gauges of one name, beside the driver's path, which metrics show as
    /// the label `path`.
    pub labels: Vec<(&'static str, String)>,
    /// The figure, in the unit that the name says.
    pub value: f64,
}

impl Gauge {
    /// A gauge without labels.
    pub fn new(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, labels: Vec::new(), value }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }
}
