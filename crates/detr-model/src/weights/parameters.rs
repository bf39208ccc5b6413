//! A module's parameters under their official names, for training: which is which, and their numbers
//! read back. The opposite of [`load_into`](super::load_into).

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, Transaction};
use detr_ops::traffic::{self, DeviceError};

use super::module::ModulePath;
use super::{StateDict, StoredTensor};

/// A parameter of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedParameter {
    /// Burn's name for it in this process.
    pub id: ParamId,
    /// Its name in a checkpoint.
    pub name: String,
    /// Its shape in a checkpoint.
    pub shape: Vec<usize>,
    /// Whether Burn stores it the other way round, as it does with the weight of a linear layer.
    pub transposed: bool,
    /// Whether it gets gradients: not so the numbers of a frozen batch norm.
    pub trained: bool,
}

/// Lists the parameters of a module, in the order of its fields, which is that of every traversal. Makes
/// those that were not made yet.
#[must_use]
pub fn named_parameters<M: Module>(module: &M) -> Vec<NamedParameter> {
    let mut reader = Reader::default();
    module.visit(&mut reader);
    reader.parameters
}

/// Reads a module's numbers by official name, in f32, with one read-back for all of them.
///
/// # Errors
/// The device failed.
pub fn read_parameters<M: Module>(module: &M) -> Result<StateDict, DeviceError> {
    let mut reader = Reader { keep: true, ..Reader::default() };
    module.visit(&mut reader);
    let Reader { parameters, values, .. } = reader;
    official_layout(parameters.iter().zip(values).map(|(parameter, value)| {
        let shape = parameter.shape.clone();
        (parameter.name.clone(), shape, parameter.transposed, value)
    }))
}

/// Reads tensors that are laid out as parameters are: name, shape in a checkpoint, whether Burn has it
/// transposed, and the numbers in Burn's order. One read-back.
///
/// # Errors
/// The device failed.
pub fn official_layout(
    tensors: impl IntoIterator<Item = (String, Vec<usize>, bool, Tensor<1>)>,
) -> Result<StateDict, DeviceError> {
    let mut transaction = Transaction::default();
    let mut names = Vec::new();
    for (name, shape, transposed, value) in tensors {
        let value = match (transposed, &shape[..]) {
            (true, &[rows, columns]) => {
                let elements = rows * columns;
                value.reshape([columns, rows]).transpose().reshape([elements])
            }
            _ => value,
        };
        transaction = transaction.register(value.detach());
        names.push((name, shape));
    }
    let mut state = StateDict::default();
    for ((name, shape), values) in names.into_iter().zip(traffic::read_f32(transaction)?) {
        state.insert(name, StoredTensor::from_f32(&values, shape));
    }
    Ok(state)
}

#[derive(Default)]
struct Reader {
    path: ModulePath,
    /// Whether the numbers are wanted, too.
    keep: bool,
    parameters: Vec<NamedParameter>,
    values: Vec<Tensor<1>>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let mut shape = value.dims().to_vec();
        let transposed = self.path.is_linear_weight();
        if transposed {
            shape.reverse();
        }
        self.parameters.push(NamedParameter {
            id: param.id,
            name: self.path.name(),
            shape,
            transposed,
            trained: value.is_require_grad(),
        });
        if self.keep {
            let elements = value.shape().num_elements();
            self.values.push(value.inner().reshape([elements]));
        }
    }
}
