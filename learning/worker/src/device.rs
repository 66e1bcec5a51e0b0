//! The GPU.

use aimass_learning::remote::{Adapter, AdapterKind};
use burn_wgpu::graphics::AutoGraphicsApi;
use burn_wgpu::{RuntimeOptions, WgpuDevice, WgpuInitError, try_init_setup, wgpu};

const NO_ADAPTER: &str =
    "no adapter was found; install the graphics driver with Vulkan (on Linux and Windows), or check that this user may open it";

/// Opens the adapter that the system prefers for speed. From then on it is the backend's default device.
pub(crate) fn open() -> Result<Adapter, String> {
    let device = WgpuDevice::default();
    let options = RuntimeOptions::try_default().map_err(|e| e.to_string())?;
    let setup = try_init_setup::<AutoGraphicsApi>(&device, options).map_err(|e| match e {
        WgpuInitError::AdapterUnavailable { .. } => NO_ADAPTER.to_owned(),
        other => other.to_string(),
    })?;
    let info = setup.adapter.get_info();
    // wgpu falls back to it where nothing else is there; but the tests of the ops do not come through on it.
    if info.backend == wgpu::Backend::Gl {
        return Err(format!("{NO_ADAPTER} ({} speaks OpenGL alone)", info.name));
    }
    let driver = [info.driver.trim(), info.driver_info.trim()].join(" ");
    Ok(Adapter {
        name: info.name,
        api: info.backend.to_str().to_owned(),
        driver: driver.trim().to_owned(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
    })
}
