package stdio

import "bytes"

// detacher finds the detach keys in what is typed, across reads.
type detacher struct {
	keys []byte
	held []byte // the beginning of keys that was typed last and is held back
}

// filter returns what of the input is to go on to the process, and whether
// the detach keys were typed. Held keys go on once they turn out to be no
// beginning of the detach keys.
func (d *detacher) filter(p []byte) (out []byte, detach bool) {
	if len(d.keys) == 0 {
		return p, false
	}
	if len(d.held) == 0 && bytes.IndexByte(p, d.keys[0]) < 0 {
		return p, false
	}
	out = make([]byte, 0, len(d.held)+len(p))
	for _, b := range p {
		d.held = append(d.held, b)
		for len(d.held) > 0 && !bytes.HasPrefix(d.keys, d.held) {
			out = append(out, d.held[0])
			d.held = d.held[1:]
		}
		if len(d.held) == len(d.keys) {
			d.held = nil
			return out, true
		}
	}
	return out, false
}
