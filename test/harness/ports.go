package harness

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
)

// Ports that tests may name are below those that the kernel chooses from, so
// that no connection or port of somebody else gets in between.
const firstPort, lastPort = 10000, 32000

// reservePorts finds n consecutive ports that are free for TCP and UDP on all
// addresses, and keeps all other tests on the machine from finding them, too,
// until the script ends.
func (s *script) reservePorts(n int) (first int, err error) {
	for range 1000 {
		first = firstPort + rand.IntN(lastPort-firstPort-n)
		held, taken := holdPorts(first, n)
		if taken == nil {
			s.closers = append(s.closers, held.Close)
			return first, nil
		}
		err = errors.Join(taken, held.Close())
	}
	return 0, fmt.Errorf("no free ports: %w", err)
}

// closers are closed together.
type closers []io.Closer

// Close implements io.Closer.
func (c closers) Close() error {
	var errs []error
	for _, one := range c {
		errs = append(errs, one.Close())
	}
	return errors.Join(errs...)
}

// holdPorts takes for each port a name that only one process can have.
func holdPorts(first, n int) (held closers, err error) {
	for port := first; port < first+n; port++ {
		name, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("@kelp-test-port-%d", port), Net: "unix"})
		if err != nil {
			return held, err
		}
		held = append(held, name)
		if err := isFree(port); err != nil {
			return held, err
		}
	}
	return held, nil
}

func isFree(port int) error {
	address := fmt.Sprintf(":%d", port)
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return errors.Join(err, tcp.Close())
	}
	return errors.Join(tcp.Close(), udp.Close())
}
