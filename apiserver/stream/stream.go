// Package stream writes what the Engine API sends as a stream: standard
// output and error framed into one, and sequences of JSON documents.
//
// It must not know what is streamed.
package stream

import "encoding/binary"

// Standard streams, numbered as in frames.
const (
	Stdin byte = iota
	Stdout
	Stderr
	// SystemErr carries an error of the engine, not output: clients that
	// demultiplex return it as an error.
	SystemErr
)

// HeaderSize is the length of a frame's header, in bytes.
const HeaderSize = 8

// PutHeader writes the header of a frame of size bytes to the start of dst:
// the stream's number, three zero bytes, and the size (4 bytes, big endian).
func PutHeader(dst []byte, stream byte, size int) {
	_ = dst[HeaderSize-1]
	dst[0], dst[1], dst[2], dst[3] = stream, 0, 0, 0
	binary.BigEndian.PutUint32(dst[4:], uint32(size))
}

// AppendFrame appends data to dst as one frame of Docker's multiplexed stream.
func AppendFrame(dst []byte, stream byte, data []byte) []byte {
	var header [HeaderSize]byte
	PutHeader(header[:], stream, len(data))
	return append(append(dst, header[:]...), data...)
}
