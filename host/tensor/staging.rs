//! Where the bytes of tensors are written: memory that the engine provides (plain for CPU lanes, pinned for devices) and
//! that guests and host calls fill without knowing which it is.

use bytes::Bytes;

/// Provides memory for tensors. The engine implements it and `boot` hands it to the sandbox.
pub trait Staging: Send + Sync {
    /// `bytes` bytes of zeros. Memory from a pool is zeroed again, or a guest would read another tenant's bytes.
    fn zeroed(&self, bytes: usize) -> Buffer;
}

/// Writable bytes that go back to where they came from when the last owner lets go.
pub struct Buffer(Box<dyn Memory>);

/// What a buffer is made of.
pub trait Memory: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static {}
impl<M: AsRef<[u8]> + AsMut<[u8]> + Send + Sync + 'static> Memory for M {}

impl Buffer {
    /// Wraps memory; dropping the buffer drops it.
    pub fn new(memory: impl Memory) -> Self {
        Self(Box::new(memory))
    }

    /// Ends writing: from here on the bytes are shared and read-only.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(Frozen(self.0))
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        (*self.0).as_mut()
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

struct Frozen(Box<dyn Memory>);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Plain memory of the process, for CPU lanes.
#[derive(Debug, Default)]
pub struct HeapStaging;

impl Staging for HeapStaging {
    fn zeroed(&self, bytes: usize) -> Buffer {
        // `vec![0; n]` asks the allocator for zeroed pages, which large tensors get untouched from the kernel.
        Buffer::new(vec![0_u8; bytes])
    }
}
