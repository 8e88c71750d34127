//! What the driver tells of a GPU beside what libtorch does with it: utilisation, temperature, power.
//!
//! Owns NVML, which is loaded when there is a GPU and never linked. A device is found by its place on the bus, because CUDA
//! and NVML count devices differently (`CUDA_VISIBLE_DEVICES`, containers). What a driver does not tell is left out.

use std::{
    ffi::{CStr, OsStr, c_char},
    fmt,
};

use nvml_wrapper::{Nvml, enum_wrappers::device::TemperatureSensor};

use super::device;
use crate::engine::{BackendError, DeviceActivity};

/// The driver's own library; without the number it is there only where one compiles against it.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// What `0000:18:00.0` takes, and more.
const BUS_BYTES: usize = 32;

#[expect(unsafe_code, reason = "tch has no name for where a device is")]
// SAFETY: the shim defines it with these types; it writes at most so many bytes of text to each, and throws nothing.
unsafe extern "C" {
    fn tenon_device_bus(device: i32, bus: *mut c_char, bus_room: usize, text: *mut c_char, room: usize) -> i32;
}

/// The driver, as far as it answers.
pub(super) struct Driver(Nvml);

/// A device as the driver knows it: its place on the bus, such as `0000:18:00.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bus(String);

impl Driver {
    pub(super) fn load() -> Result<Self, String> {
        let nvml = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init();
        nvml.map(Self).map_err(|error| format!("{LIBRARY}: {error}"))
    }

    /// Asks for all that it tells; some of it is not told of parts of a GPU (MIG), or within some virtual machines.
    pub(super) fn ask(&self, bus: &Bus, activity: &mut DeviceActivity) {
        let Ok(device) = self.0.device_by_pci_bus_id(&*bus.0) else { return };
        activity.utilization_ratio = device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0);
        activity.temperature_celsius = device.temperature(TemperatureSensor::Gpu).ok().map(f64::from);
        activity.power_watts = device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

impl Bus {
    /// Where libtorch's device of this number is.
    pub(super) fn of(index: u32) -> Result<Self, BackendError> {
        let mut bus = [0_u8; BUS_BYTES];
        #[expect(unsafe_code, reason = "the shim's calls")]
        // SAFETY: room for the bus and for what is said, each with its length.
        device::call(|text, room| unsafe {
            tenon_device_bus(index as i32, bus.as_mut_ptr().cast(), BUS_BYTES, text, room)
        })?;
        let told = CStr::from_bytes_until_nul(&bus).map(CStr::to_string_lossy).unwrap_or_default();
        Ok(Self(told.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_driver_both_say_so_and_nothing_more_happens() {
        if device::load() == Ok(0) {
            let said = Bus::of(0).unwrap_err().detail;
            assert_eq!(said, "CUDA's runtime does not know the device's bus", "the runtime itself is there");
            assert!(Driver::load().is_err_and(|error| error.starts_with(LIBRARY)));
        }
    }
}
