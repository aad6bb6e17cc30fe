package forward

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
