//! What a guest still holds handles of when its invocation has ended. Runtimes that collect garbage let go of them
//! whenever they come to it, which may be in the middle of the next invocation: so a handle stays valid, and what stood
//! behind it goes at once.

use std::{any::Any, sync::Arc};

use bytes::Bytes;

use super::{
    host_calls::{
        images::{Fit, Image, Pen},
        policies::CachePolicy,
        request::Handle,
        response, steps,
        tensors::Tensor,
        text::{Encoding, Options},
    },
    store::Guest,
};
use crate::{
    account::{Account, Kind},
    tensor::{Datatype, Layout, Tensor as Shared},
};

/// Handles that a guest may leave; who leaves more is not kept.
const MAX_LEFT: usize = 1024;

impl Guest {
    /// Takes away what stands behind handles of an invocation that has ended. False: the instance cannot be kept.
    pub(super) fn clear_leftovers(&mut self, account: &Arc<Account>) -> bool {
        let mut left = 0;
        for behind in self.table.iter_mut() {
            left += 1;
            if left > MAX_LEFT || !clear(behind, account) {
                return false;
            }
        }
        true
    }
}

fn clear(behind: &mut (dyn Any + Send), account: &Arc<Account>) -> bool {
    if let Some(tensor) = behind.downcast_mut::<Tensor>() {
        let Some(empty) = empty() else { return false };
        *tensor = Tensor::sealed(empty, account.nothing(Kind::Tensors).into(), None);
    } else if let Some(draft) = behind.downcast_mut::<response::Draft>() {
        draft.clear();
    } else if let Some(draft) = behind.downcast_mut::<steps::Draft>() {
        draft.clear(account);
    } else if let Some(results) = behind.downcast_mut::<steps::Results>() {
        results.clear(account);
    } else if let Some(options) = behind.downcast_mut::<Options>() {
        options.clear(account);
    } else if let Some(encoding) = behind.downcast_mut::<Encoding>() {
        let Some(empty) = empty() else { return false };
        encoding.clear(&empty, account);
    } else if let Some(image) = behind.downcast_mut::<Image>() {
        image.clear(account);
    } else if let Some(fit) = behind.downcast_mut::<Fit>() {
        fit.clear(account);
    } else if let Some(pen) = behind.downcast_mut::<Pen>() {
        pen.clear(account);
    } else if let Some(policy) = behind.downcast_mut::<CachePolicy>() {
        policy.clear(account);
    } else {
        // The request's is taken out before; whatever else there may be some day is not ours to judge.
        return behind.is::<Handle>();
    }
    true
}

/// A tensor of no rows.
fn empty() -> Option<Shared> {
    let layout = Layout::fixed(&[0]).ok()?;
    Some(Shared { datatype: Datatype::Uint8, layout, bytes: Bytes::new() })
}
