// Package entry is the layout of container log files: what the keeper writes
// and engine/logs reads. An entry is one line of output, or a piece of a long
// one.
//
// It must stay small and import nothing of either side: both link it.
package entry

import "time"

// Stream is the standard stream that an entry came from.
type Stream byte

// Streams. Their values are those of Docker's multiplexed framing.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// set is the inverse of String.
func (s *Stream) set(name []byte) bool {
	switch string(name) {
	case "stdout":
		*s = Stdout
	case "stderr":
		*s = Stderr
	default:
		return false
	}
	return true
}

// MaxLine is the longest line, in bytes, that one entry holds; longer ones are
// cut into partial entries.
const MaxLine = 16 << 10

// MaxRecord bounds an encoded entry, in bytes: MaxLine escaped to its
// longest, and room for attributes.
const MaxRecord = 1 << 20

// Entry is one line of a container's output.
type Entry struct {
	Stream Stream
	// Partial says that no newline followed Line: the stream's next entry
	// continues it, or the output ended there.
	Partial bool
	Time    time.Time
	// Line is without its newline. A decoded one is valid until the next
	// call of the decoder.
	Line []byte
	// Attrs are labels, environment and tag that were asked for in the
	// container's log options; json-file alone keeps them.
	Attrs map[string]string
}

// Encoder turns entries into bytes of a log file.
type Encoder interface {
	// Append appends e, encoded, to dst. It does not read e.Attrs: they are
	// the same for a whole file and given to the encoder.
	Append(dst []byte, e *Entry) []byte
}

// Decoder turns bytes of a log file into entries. It keeps state between
// calls and serves one file at a time.
type Decoder interface {
	// Next decodes the first entry of b into e and returns how many bytes it
	// takes; 0 asks for more bytes. Bytes that are no entry (torn by a crash,
	// or foreign) are passed over: ok is false and n says how many.
	Next(b []byte, e *Entry) (n int, ok bool)
	// Last decodes the last entry of b into e and returns where in b it
	// starts, for reading backwards; a negative start asks for more bytes in
	// front. whole says that b begins where the file does, so that there are
	// none. Bytes that are no entry are passed over as in Next.
	//
	// Preconditions: b is not empty.
	Last(b []byte, whole bool, e *Entry) (start int, ok bool)
}
