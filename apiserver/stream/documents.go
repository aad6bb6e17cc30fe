package stream

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/moby/moby/api/types"
)

// recordSeparator begins each document of a JSON text sequence (RFC 7464).
const recordSeparator = 0x1e

// Documents writes JSON documents one after another.
type Documents struct {
	w        io.Writer
	buf      bytes.Buffer
	enc      *json.Encoder
	sequence bool
}

// NewDocuments returns a writer of documents in one of the media types JSON,
// NDJSON, JSONLines, all of one document a line, or JSONSequence.
func NewDocuments(w io.Writer, media types.MediaType) *Documents {
	d := &Documents{w: w, sequence: media == types.MediaTypeJSONSequence}
	d.enc = json.NewEncoder(&d.buf)
	d.enc.SetEscapeHTML(false)
	return d
}

// Write writes a document, in one piece.
func (d *Documents) Write(v any) error {
	d.buf.Reset()
	if d.sequence {
		d.buf.WriteByte(recordSeparator)
	}
	if err := d.enc.Encode(v); err != nil {
		return err
	}
	_, err := d.w.Write(d.buf.Bytes())
	return err
}
