package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/kelp-engine/kelp/engine/fault"
	"github.com/kelp-engine/kelp/image/transfer"
)

// progressMessage is a message as clients of every age read it: the older
// ones look for the error's text in "error".
type progressMessage struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// progress answers with the messages of run as a stream of JSON documents. An
// error that comes before the first message is an ordinary error answer; a
// later one is the stream's last message.
func progress(run func(transfer.Progress) error) response {
	return responseFunc(func(w http.ResponseWriter, r *http.Request) error {
		// Progress is told while the archive is still coming in; net/http would
		// otherwise drop the rest of the request with the first write.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			return fault.Internal("cannot answer while the request is read: %w", err)
		}
		p := &progressStream{w: w}
		err := run(p.send)
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil && !p.started {
			return err
		}
		if err != nil {
			detail := &jsonstream.Error{Message: err.Error()}
			if status := errhttp.ToHTTP(err); status != http.StatusInternalServerError {
				detail.Code = status
			}
			p.write(progressMessage{jsonstream.Message{Error: detail}, err.Error()})
		}
		p.start()
		if p.err != nil {
			return errStarted{p.err}
		}
		return nil
	})
}

// progressStream writes messages from several goroutines.
type progressStream struct {
	w       http.ResponseWriter
	mu      sync.Mutex
	out     io.Writer
	started bool
	err     error // of the first write that failed: the client is gone
}

func (p *progressStream) send(m jsonstream.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write(progressMessage{Message: m})
}

// start begins the answer.
//
// Preconditions: mu is held, as for write.
func (p *progressStream) start() {
	if !p.started {
		p.started = true
		p.w.Header().Set("Content-Type", "application/json")
		p.w.WriteHeader(http.StatusOK)
		p.out = newFlushed(p.w)
	}
}

func (p *progressStream) write(m progressMessage) {
	p.start()
	b, err := json.Marshal(m)
	if err == nil {
		_, err = p.out.Write(append(b, '\r', '\n'))
	}
	p.err = errors.Join(p.err, err)
}
