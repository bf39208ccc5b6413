//! The self-test of a device: the kernel of multi-scale deformable attention, the operations that models and losses
//! are made of, and one small model forward and backward, against the CPU.
//!
//! The kernel and the operations are measured against numbers that the host computes in f64
//! (`detr_ops::self_test`), the model against the same model on the CPU in f32. On the CPU in f32 the model is
//! therefore compared with itself; that it is right there is what the parity tests show.
//!
//! Every comparison says what needs it: a device that fails is refused for that work only. A few operations are
//! needed by nothing here, because the programs go round what drivers get wrong; they are reported all the same.

mod model;

use std::fmt;

use burn::tensor::Device;
use detr_model::float_dtype;
use detr_ops::self_test::{
    DeviceOperations, Need, Quantity, self_test_of as test_kernel, test_operations,
};
pub use detr_ops::self_test::{Extent, Operation, Operations};

use crate::backend::{Precision, Purpose, SelectedDevice, catch_panic};

/// One line of the report.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Row {
    /// The operation that was compared.
    pub what: String,
    /// Largest difference, relative to the largest number expected; of the model's gradients, the
    /// largest of a parameter, relative to its length.
    pub error: f64,
    /// The error that is allowed.
    pub bound: f64,
    /// The first work that needs it, which a failure refuses; training needs all that prediction needs. `None`
    /// where the programs do without.
    pub needed_for: Option<Purpose>,
}

/// The findings of the self-test about a device in one precision.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Backend and adapter.
    pub device: String,
    /// Driver and its version, where they are known.
    pub driver: Option<String>,
    /// Precision.
    pub dtype: String,
    /// The comparisons of the kernel and of the model.
    pub rows: Vec<Row>,
    /// The comparisons of single operations.
    pub operations: Vec<Row>,
    /// Whether the large sizes were tested, too.
    pub full: bool,
    /// The error of the device at work, if it failed.
    pub failure: Option<String>,
}

/// The code that is tested. Tests replace a part by a broken one.
#[derive(Clone, Copy)]
pub struct TestedCode<'a> {
    /// The kernel of multi-scale deformable attention.
    pub kernel: Operation<'a>,
    /// The other operations.
    pub operations: &'a dyn Operations,
    /// The sizes of the other operations.
    pub extent: Extent,
}

impl TestedCode<'static> {
    /// Identifies the code of this program.
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        Self { kernel: &detr_ops::msda, operations: &DeviceOperations, extent }
    }
}

impl Row {
    /// Returns whether the error is within its bound; an error that is not a number is not.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }

    fn refuses(&self, purpose: Purpose) -> bool {
        !self.passed() && self.needed_for.is_some_and(|needed_for| needed_for <= purpose)
    }
}

impl Report {
    /// Returns whether the device did all work, and all that some work needs within bounds.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failure.is_none() && self.wrong().is_none()
    }

    /// Finds the first number that is out of bounds, of those that some work needs.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        self.refused(Purpose::Training)
    }

    /// Finds the first number out of bounds that this work needs.
    #[must_use]
    pub fn refused(&self, purpose: Purpose) -> Option<String> {
        let row = self.all_rows().find(|row| row.refuses(purpose))?;
        Some(format!("{}: error {:.1e}, allowed {:.1e}", row.what, row.error, row.bound))
    }

    fn all_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().chain(&self.operations)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.as_ref().map(|driver| format!(", {driver}")).unwrap_or_default();
        writeln!(f, "{}{driver}, {}", self.device, self.dtype)?;
        writeln!(f, "{:<34} {:>10} {:>10}  needed for", "", "error", "allowed")?;
        for row in self.all_rows() {
            let needed_for = row.needed_for.map_or("-", Purpose::name);
            let verdict = match (row.passed(), row.needed_for) {
                (true, _) => "ok",
                (false, Some(_)) => "FAILED",
                (false, None) => "wrong, and avoided",
            };
            let allowed =
                if row.bound == 0.0 { "exact".into() } else { format!("{:.1e}", row.bound) };
            let error = if row.error == 0.0 { "0".into() } else { format!("{:.1e}", row.error) };
            writeln!(f, "{:<34} {error:>10} {allowed:>10}  {needed_for:<11}  {verdict}", row.what)?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "the device failed: {failure}")?;
        }
        Ok(())
    }
}

/// Tests a device. `cpu` computes what the model is compared with.
#[must_use]
pub fn self_test(selected: &SelectedDevice, precision: Precision, cpu: &Device) -> Report {
    self_test_of(TestedCode::new(Extent::Quick), selected, precision, cpu)
}

/// Runs [`self_test`] with another operation in place of the kernel, to see what a broken one leads to.
#[must_use]
pub fn self_test_with(
    kernel: Operation<'_>,
    selected: &SelectedDevice,
    precision: Precision,
    cpu: &Device,
) -> Report {
    self_test_of(TestedCode { kernel, ..TestedCode::new(Extent::Quick) }, selected, precision, cpu)
}

/// Runs [`self_test`] with other code or sizes.
#[must_use]
pub fn self_test_of(
    subject: TestedCode<'_>,
    selected: &SelectedDevice,
    precision: Precision,
    cpu: &Device,
) -> Report {
    let device = &selected.device;
    let mut report = Report {
        device: selected.name.clone(),
        driver: selected.driver.clone(),
        dtype: precision.to_string(),
        rows: Vec::new(),
        operations: Vec::new(),
        full: subject.extent == Extent::Full,
        failure: None,
    };
    let kernel = catch_panic(|| kernel_rows(subject.kernel, device, precision)).flatten();
    let model = || catch_panic(|| model::model_rows(device, precision, cpu)).flatten();
    let operations = || catch_panic(|| operation_rows(subject, device, precision)).flatten();
    let tested = kernel
        .map(|rows| report.rows.extend(rows))
        .and_then(|()| model())
        .map(|rows| report.rows.extend(rows))
        .and_then(|()| operations())
        .map(|rows| report.operations.extend(rows));
    report.failure = tested.err();
    report
}

fn kernel_rows(
    kernel: Operation<'_>,
    device: &Device,
    precision: Precision,
) -> Result<Vec<Row>, String> {
    let report =
        test_kernel(kernel, device, float_dtype(precision)).map_err(|error| error.to_string())?;
    let rows = report.comparisons.into_iter().map(|found| Row {
        what: format!("msda {}", found.quantity),
        error: found.error,
        bound: found.bound,
        needed_for: Some(match found.quantity {
            Quantity::Output => Purpose::Prediction,
            _ => Purpose::Training,
        }),
    });
    Ok(rows.collect())
}

fn operation_rows(
    subject: TestedCode<'_>,
    device: &Device,
    precision: Precision,
) -> Result<Vec<Row>, String> {
    let dtype = float_dtype(precision);
    let checks = test_operations(subject.operations, device, dtype, subject.extent)
        .map_err(|error| error.to_string())?;
    let rows = checks.into_iter().map(|check| {
        if !check.passed() {
            tracing::debug!("{} of {}: error {:.1e}", check.operation, check.call, check.error);
        }
        Row {
            what: check.operation.to_owned(),
            error: check.error,
            bound: check.bound,
            needed_for: match check.need {
                Need::Prediction => Some(Purpose::Prediction),
                Need::Training => Some(Purpose::Training),
                Need::Nothing => None,
            },
        }
    });
    Ok(rows.collect())
}
