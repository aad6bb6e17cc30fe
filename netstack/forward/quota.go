package forward

import (
	"log/slog"
	"math"
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
// of those that the process can have: containers, too, need some to start.
var descriptors budget

type budget struct {
	used atomic.Int64
	next atomic.Int64 // when it may be logged again that nothing is left
}

// budgetSilence is how long it is not logged again.
const budgetSilence = 10 * time.Second

// What flows cost in open files.
const (
	dialCost = 1
	tcpCost  = 4 // two sockets, and a pipe for each direction's data
	udpCost  = 2
)

// take says whether there are n more; that there are not is logged.
func (b *budget) take(n int64, log *slog.Logger) bool {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = math.MaxInt64
	}
	if b.used.Add(n) <= int64(limit.Cur/4*3) {
		return true
	}
	b.give(n)
	if at, next := now(), b.next.Load(); at >= next && b.next.CompareAndSwap(next, at+int64(budgetSilence)) {
		log.Warn("connections of containers are refused: there are too many for kelp's limit of open files", "limit", limit.Cur,
			"hint", "raise it with 'ulimit -n', or LimitNOFILE in kelp's service, before kelp starts")
	}
	return false
}

func (b *budget) give(n int64) { b.used.Add(-n) }
