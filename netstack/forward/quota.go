package forward

import (
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// quota shares a number of things among those who want them: one may have as
// many as would then still be left for the others. So whoever takes all that
// it can get leaves half, two of them a third each, and nobody is starved.
//
// Its owner's lock guards it.
type quota[K comparable] struct {
	limit int
	used  int
	held  map[K]int
}

func newQuota[K comparable](limit int) *quota[K] {
	return &quota[K]{limit: limit, held: map[K]int{}}
}

// take says whether k may have one more.
func (q *quota[K]) take(k K) bool {
	if q.held[k] >= q.limit-q.used {
		return false
	}
	q.used++
	q.held[k]++
	return true
}

// give returns one.
func (q *quota[K]) give(k K) {
	q.used--
	if q.held[k]--; q.held[k] == 0 {
		delete(q.held, k)
	}
}

// oldestOf is among how many the quietest is looked for: looking at all of them
// for each datagram of a flood would take long.
const oldestOf = 16

// descriptors counts the open files of all flows. They may use three quarters
// of those that the process can have: containers, too, need some to start. Of
// these one container or client may use as many as are then still left.
var descriptors = budget{held: map[netip.Addr]int64{}}

type budget struct {
	mu   sync.Mutex
	used int64
	held map[netip.Addr]int64
	told seldom // that nothing is left
}

// seldom is what is worth a line in the log, but not for each packet of a flood.
type seldom struct{ next atomic.Int64 }

// due says whether it may be logged again.
func (s *seldom) due() bool {
	const silence = 10 * time.Second
	at, next := now(), s.next.Load()
	return at >= next && s.next.CompareAndSwap(next, at+int64(silence))
}

// outOfPorts is told when the host has no port left for a container.
var outOfPorts seldom

// warnOfPorts logs an error that comes of that.
func warnOfPorts(log *slog.Logger, err error) {
	if (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EADDRINUSE)) && outOfPorts.due() {
		log.Warn("the host has no port, or no address, for what a container sends", "error", err,
			"hint", "more ports, as root: sysctl -w net.ipv4.ip_local_port_range='10000 65000'")
	}
}

// What flows cost in open files.
const (
	dialCost = 1
	tcpCost  = 2 // pipes are held only while data moves
	udpCost  = 2
	// One socket stands for a client of a published UDP port, or for a ping.
	socketCost = 1
)

// take says whether there are n more for somebody; that there are not is
// logged.
func (b *budget) take(who netip.Addr, n int64, log *slog.Logger) bool {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = math.MaxInt64
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held[who]+n <= int64(limit.Cur/4*3)-b.used {
		b.used += n
		b.held[who] += n
		return true
	}
	if b.told.due() {
		log.Warn("connections are refused: there are too many for kelp's limit of open files", "of", who, "limit", limit.Cur,
			"hint", "raise it with 'ulimit -n', or LimitNOFILE in kelp's service, before kelp starts")
	}
	return false
}

// Hold counts one open file of somebody, as those of flows are, until release.
// That none is left for him is ENFILE.
func Hold(who netip.Addr, log *slog.Logger) (release func(), err error) {
	if !descriptors.take(who, socketCost, log) {
		return nil, unix.ENFILE
	}
	return func() { descriptors.give(who, socketCost) }, nil
}

func (b *budget) give(who netip.Addr, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.held[who] -= n; b.held[who] == 0 {
		delete(b.held, who)
	}
}
