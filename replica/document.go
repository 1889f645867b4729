package replica

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"lifeboat/replica/segment"
)

// A document is a JSON value in an envelope that proves it:
//
//	{"body":<the value, without a newline>,"sha256":"<64 hexadecimal digits>"}\n
//
// There is one way to write the envelope, so any changed byte is noticed, in
// the envelope or in the value.
const (
	documentHead = `{"body":`
	documentMid  = `,"sha256":"`
	documentTail = "\"}\n"

	// format is the version of all documents.
	format = 1
	// maxDocument bounds a document, in bytes: a manifest of 100,000 segments
	// is smaller.
	maxDocument = 32 << 20
)

// ErrFormat tells that a document was written by a version that this one does
// not know.
var ErrFormat = errors.New("format is not known to this version; use a newer one")

func encodeDocument(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	var b bytes.Buffer
	b.WriteString(documentHead)
	b.Write(body)
	b.WriteString(documentMid)
	b.WriteString(hex.EncodeToString(sum[:]))
	b.WriteString(documentTail)
	if b.Len() > maxDocument {
		return nil, fmt.Errorf("document of %d bytes is over the limit of %d", b.Len(), maxDocument)
	}
	return b.Bytes(), nil
}

// decodeDocument reads a document into value. Fields that this version does not
// know are an error, since what they mean cannot be ignored safely.
func decodeDocument(data []byte, value any) error {
	const end = len(documentMid) + 2*sha256.Size + len(documentTail)
	if len(data) > maxDocument {
		return fmt.Errorf("document of %d bytes is over the limit of %d", len(data), maxDocument)
	}
	body, found := bytes.CutPrefix(data, []byte(documentHead))
	if !found || len(body) < end {
		return errors.New("it is not a document of this program, or it is cut off")
	}
	body, envelope := body[:len(body)-end], body[len(body)-end:]
	sum := sha256.Sum256(body)
	if string(envelope) != documentMid+hex.EncodeToString(sum[:])+documentTail {
		return errors.New("its checksum is wrong")
	}
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &version); err != nil {
		return err
	}
	if version.Format != format {
		return fmt.Errorf("%w (it is %d, this version knows %d)", ErrFormat, version.Format, format)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its value")
	}
	return nil
}

// hashOf is the SHA-256 by which documents are referred to.
func hashOf(data []byte) segment.Hash { return sha256.Sum256(data) }
