package layer

import (
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

const (
	chunkSize  = 256 << 10
	chunkCount = 8
)

// pipeline reads a source ahead of its consumer and hashes it on the side, so
// that decompressing, hashing and writing files use a core each.
type pipeline struct {
	free   chan *chunk
	ready  chan *chunk
	hashes chan *chunk
	stop   chan struct{}
	group  sync.WaitGroup
	once   sync.Once

	// Owned by the consumer.
	current *chunk
	offset  int
	err     error
	size    int64
	tail    []byte // the last bytes of what has come, at most tailSize
}

const tailSize = 512

// chunk is a piece of the source; it is free again when both the consumer and
// the hash are done with it.
type chunk struct {
	data []byte
	n    int
	err  error
	uses atomic.Int32
}

// newPipeline starts to read src and to hash it with h.
func newPipeline(src io.Reader, h hash.Hash) *pipeline {
	p := &pipeline{
		free:   make(chan *chunk, chunkCount),
		ready:  make(chan *chunk, chunkCount),
		hashes: make(chan *chunk, chunkCount),
		stop:   make(chan struct{}),
	}
	for range chunkCount {
		p.free <- &chunk{data: make([]byte, chunkSize)}
	}
	p.group.Go(func() { p.read(src) })
	p.group.Go(func() {
		for c := range p.hashes {
			h.Write(c.data[:c.n])
			p.release(c)
		}
	})
	return p
}

func (p *pipeline) read(src io.Reader) {
	defer close(p.ready)
	defer close(p.hashes)
	for {
		var c *chunk
		select {
		case c = <-p.free:
		case <-p.stop:
			return
		}
		c.n, c.err = fill(src, c.data)
		last := c.err != nil
		c.uses.Store(2)
		p.hashes <- c // never blocks: there are as many places as chunks
		p.ready <- c
		if last {
			return
		}
	}
}

// fill reads until half of b is full, so that a source of small pieces makes
// no small chunks, or until the first error.
func fill(src io.Reader, b []byte) (n int, err error) {
	for n < len(b)/2 && err == nil {
		var m int
		m, err = src.Read(b[n:])
		n += m
	}
	return n, err
}

func (p *pipeline) release(c *chunk) {
	if c.uses.Add(-1) == 0 {
		p.free <- c
	}
}

// Read implements io.Reader.
func (p *pipeline) Read(b []byte) (int, error) {
	for p.current == nil || p.offset == p.current.n {
		if p.err != nil {
			return 0, p.err
		}
		if p.current != nil {
			p.release(p.current)
			p.current = nil
		}
		c, ok := <-p.ready
		if !ok {
			return 0, io.ErrUnexpectedEOF
		}
		p.current, p.offset, p.err = c, 0, c.err
		p.tail = append(p.tail, c.data[max(0, c.n-tailSize):c.n]...)
		p.tail = p.tail[max(0, len(p.tail)-tailSize):]
	}
	n := copy(b, p.current.data[p.offset:p.current.n])
	p.offset += n
	p.size += int64(n)
	return n, nil
}

// Close stops the pipeline and waits until nothing reads the source or writes
// the hash any more: it returns as soon as the source's Read does.
func (p *pipeline) Close() {
	p.once.Do(func() { close(p.stop) })
	p.group.Wait()
}
