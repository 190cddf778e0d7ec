// Tells a torch without CUDA that there is one CUDA device, or one of Apple's, of which nothing is ever asked.
//
// Autograd wants a guard for each device that a tensor says it is on, and asks what accelerator the process has. What
// is computed there is the business of pretended_device.py, which loads this library before torch is imported.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/detail/MPSHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <cstdlib>
#include <cstring>

namespace {
bool pretends(const char* kind) {
  const char* wanted = std::getenv("PRETENDED_DEVICE");
  return wanted != nullptr && std::strcmp(wanted, kind) == 0;
}

template <c10::DeviceType kind>
struct Guard final : public c10::impl::DeviceGuardImplInterface {
  Guard() = default;
  explicit Guard(c10::DeviceType) {}
  c10::Device device() const { return c10::Device(kind, 0); }
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, device()); }
  c10::DeviceType type() const override { return kind; }
  c10::Device exchangeDevice(c10::Device) const override { return device(); }
  c10::Device getDevice() const override { return device(); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};
using CudaGuard = Guard<c10::DeviceType::CUDA>;
using MpsGuard = Guard<c10::DeviceType::MPS>;
C10_REGISTER_GUARD_IMPL(CUDA, CudaGuard)
C10_REGISTER_GUARD_IMPL(MPS, MpsGuard)
}  // namespace

namespace at {
struct CUDAHooks : CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return pretends("cuda"); }
  bool isBuilt() const override { return pretends("cuda"); }
  bool isAvailable() const override { return pretends("cuda"); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  void deviceSynchronize(DeviceIndex) const override {}
  const Generator& getDefaultGenerator(DeviceIndex) const override { return detail::getDefaultCPUGenerator(); }
  Generator getNewGenerator(DeviceIndex) const override { return detail::createCPUGenerator(); }
};
REGISTER_CUDA_HOOKS(CUDAHooks)

struct MPSHooks : MPSHooksInterface {
  void init() const override {}
  bool hasMPS() const override { return pretends("mps"); }
  bool isBuilt() const override { return pretends("mps"); }
  bool isAvailable() const override { return pretends("mps"); }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  void deviceSynchronize() const override {}
  const Generator& getDefaultGenerator(DeviceIndex) const override { return detail::getDefaultCPUGenerator(); }
  Generator getNewGenerator(DeviceIndex) const override { return detail::createCPUGenerator(); }
};
REGISTER_MPS_HOOKS(MPSHooks)
}  // namespace at
