package link

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The commands of the kernel's ethtool interface that are used here, and
// the sizes of its records.
const (
	ethtoolGetStrings   = 0x1b
	ethtoolGetSetInfo   = 0x37
	ethtoolSetFeatures  = 0x3b
	ethtoolFeatureNames = 4
	ethtoolNameSize     = 32
)

// setFeature switches an offload of a device of the calling thread's network
// namespace. A kernel that does not know the offload cannot use it either.
func setFeature(device, feature string, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	names, err := featureNames(fd, device)
	if err != nil {
		return fmt.Errorf("cannot list offloads of %s: %w", device, err)
	}
	for i, name := range names {
		if name == feature {
			if err := changeFeature(fd, device, i, len(names), on); err != nil {
				return fmt.Errorf("cannot switch offload %s of %s: %w", feature, device, err)
			}
		}
	}
	return nil
}

// featureNames returns the kernel's offloads; the index of each is its bit.
func featureNames(fd int, device string) ([]string, error) {
	info := struct {
		cmd, reserved uint32
		mask          uint64
		count         uint32
		_             uint32
	}{cmd: ethtoolGetSetInfo, mask: 1 << ethtoolFeatureNames}
	if err := ethtool(fd, device, unsafe.Pointer(&info)); err != nil {
		return nil, err
	}
	const head = 3 * 4
	buf := make([]uint32, (head+int(info.count)*ethtoolNameSize)/4)
	buf[0], buf[1], buf[2] = ethtoolGetStrings, ethtoolFeatureNames, info.count
	if err := ethtool(fd, device, unsafe.Pointer(&buf[0])); err != nil {
		return nil, err
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&buf[3])), int(info.count)*ethtoolNameSize)
	names := make([]string, info.count)
	for i := range names {
		name, _, _ := bytes.Cut(raw[i*ethtoolNameSize:(i+1)*ethtoolNameSize], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

func changeFeature(fd int, device string, bit, bits int, on bool) error {
	blocks := (bits + 31) / 32
	req := make([]uint32, 2+2*blocks) // cmd, blocks, then valid and requested bits of each
	req[0], req[1] = ethtoolSetFeatures, uint32(blocks)
	req[2+bit/32*2] = 1 << (bit % 32)
	if on {
		req[2+bit/32*2+1] = 1 << (bit % 32)
	}
	return ethtool(fd, device, unsafe.Pointer(&req[0]))
}

func ethtool(fd int, device string, data unsafe.Pointer) error {
	var req struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	req.data = data
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
