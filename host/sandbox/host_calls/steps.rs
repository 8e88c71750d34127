//! `steps`: what a plugin asks models, and what they said.

use std::{collections::BTreeMap, sync::Arc};

use wasmtime::{Result, component::Resource};

use super::{check_name, failure, tensors::Tensor};
use crate::{
    account::{Account, Charge, Kind},
    invocation::{Inference, Outputs},
    known::Wanted,
    sandbox::{
        bindings::{
            steps::{Host, HostInference, HostOutputs},
            types::Failure,
        },
        store::Guest,
    },
    tensor::Tensor as Shared,
};

/// Inputs of one inference; no model has more.
const MAX_INPUTS: usize = 64;
/// What an input takes beside its name and its tensor's bytes.
const INPUT_BYTES: u64 = 256;
/// What is kept of a row that was asked for, and what looking for it takes, beside what is known of it.
const WANTED_BYTES: u64 = 256;

/// An inference that the guest has not asked for yet.
pub struct Draft {
    model: String,
    inputs: BTreeMap<String, (Shared, Arc<Charge>)>,
    /// Rows that were asked for; none where nobody asked, or rows are not remembered by their names.
    wanted: Vec<Wanted>,
    handle: Charge,
}

impl Draft {
    /// The inference as the host takes it.
    pub(in crate::sandbox) fn finish(self) -> Inference {
        let (wanted, charges) = (self.wanted, vec![Arc::new(self.handle)]);
        let mut inference = Inference { model: self.model, inputs: Vec::new(), wanted, charges };
        for (name, (tensor, charge)) in self.inputs {
            inference.inputs.push((name, tensor));
            inference.charges.push(charge);
        }
        inference
    }

    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self.inputs.clear();
        self.wanted.clear();
        self.handle = account.nothing(Kind::Handles);
    }
}

/// A model's outputs, until the guest lets go of them.
pub struct Results {
    tensors: Vec<(Arc<str>, Shared)>,
    charge: Arc<Charge>,
    _handle: Charge,
}

impl Results {
    pub(in crate::sandbox) fn new(outputs: Outputs, handle: Charge) -> Self {
        Self { tensors: outputs.tensors, charge: outputs.charge, _handle: handle }
    }

    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self.tensors.clear();
        self.charge = account.nothing(Kind::Outputs).into();
        self._handle = account.nothing(Kind::Handles);
    }
}

impl Host for Guest {}

impl HostInference for Guest {
    fn new(&mut self, model: String) -> Result<Resource<Draft>> {
        check_name(&model)?;
        let handle = self.limits.handle()?;
        Ok(self.table.push(Draft { model, inputs: BTreeMap::new(), wanted: Vec::new(), handle })?)
    }

    fn input(
        &mut self,
        this: Resource<Draft>,
        name: String,
        tensor: Resource<Tensor>,
    ) -> Result<std::result::Result<(), Failure>> {
        check_name(&name)?;
        let draft = self.table.get(&this)?;
        if draft.inputs.contains_key(&name) || draft.inputs.len() >= MAX_INPUTS {
            let detail = format!("`{name}` is there already, or there are more than {MAX_INPUTS} inputs");
            return Ok(Err(failure("duplicate-input", detail)));
        }
        let shared = self.table.get_mut(&tensor)?.seal();
        let draft = self.table.get_mut(&this)?;
        self.limits.beside(&mut draft.handle, INPUT_BYTES + name.len() as u64)?;
        draft.inputs.insert(name, shared);
        Ok(Ok(()))
    }

    async fn reuse(&mut self, this: Resource<Draft>, keys: Vec<Vec<u8>>) -> Result<Vec<bool>> {
        let Some(rows) = self.assignment.rows.clone() else { return Ok(vec![false; keys.len()]) };
        let draft = self.table.get_mut(&this)?;
        self.limits.beside(&mut draft.handle, WANTED_BYTES * keys.len() as u64)?;
        // The contract lets a host answer so for all of them, too.
        let Some(finding) = rows.find(&draft.model, &keys, &draft.wanted) else { return Ok(vec![false; keys.len()]) };
        let found = finding.await;
        let known = found.iter().map(Wanted::is_known).collect();
        draft.wanted.extend(found);
        Ok(known)
    }

    fn drop(&mut self, this: Resource<Draft>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl HostOutputs for Guest {
    fn names(&mut self, this: Resource<Results>) -> Result<Vec<String>> {
        Ok(self.table.get(&this)?.tensors.iter().map(|(name, _)| name.to_string()).collect())
    }

    fn tensor(
        &mut self,
        this: Resource<Results>,
        name: String,
    ) -> Result<std::result::Result<Resource<Tensor>, Failure>> {
        check_name(&name)?;
        let results = self.table.get(&this)?;
        let found = results.tensors.iter().find(|(known, _)| **known == *name);
        let Some((_, shared)) = found else {
            return Ok(Err(failure("unknown-output", format!("the model has no output `{name}`"))));
        };
        let (shared, charge) = (shared.clone(), results.charge.clone());
        let tensor = Tensor::sealed(shared, charge, Some(self.limits.handle()?));
        Ok(Ok(self.table.push(tensor)?))
    }

    fn drop(&mut self, this: Resource<Results>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
