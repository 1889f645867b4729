package segment

import (
	"crypto/sha256"
	"fmt"

	"lifeboat/replica/blobstore"
)

// Kind tells how the blocks of a segment were chosen.
type Kind uint8

// The kinds of segments. A walk's blocks were read while the guest could change
// them, so they are overridden by the delta of the same point.
const (
	Delta Kind = 1 // what the change log of an epoch told
	Walk  Kind = 2 // what a walk over the whole disk found
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Delta:
		return "delta"
	case Walk:
		return "walk"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MarshalText writes the kind's name.
func (k Kind) MarshalText() ([]byte, error) {
	if k != Delta && k != Walk {
		return nil, fmt.Errorf("segment of unknown %v", k)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (k *Kind) UnmarshalText(text []byte) error {
	switch string(text) {
	case "delta":
		*k = Delta
	case "walk":
		*k = Walk
	default:
		return fmt.Errorf("segment of unknown kind %q", text)
	}
	return nil
}

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// MarshalText writes the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hexText(h[:]), nil }

// UnmarshalText reads what MarshalText wrote.
func (h *Hash) UnmarshalText(text []byte) error { return unhexText("SHA-256", h[:], text) }

// IsZero tells that no hash was set.
func (h Hash) IsZero() bool { return h == Hash{} }

// String returns the hash in hexadecimal.
func (h Hash) String() string { return string(hexText(h[:])) }

// Ref is how a manifest names a segment, and all that is needed to prove it.
type Ref struct {
	// Name is the blob's name below the folder of its disk.
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	// Size is that of the blob, in bytes.
	Size int64 `json:"size"`
	// IndexOffset is where the index begins; it reaches to the footer.
	IndexOffset int64 `json:"index_offset"`
	// Footer is the SHA-256 of the footer, which holds that of the index.
	Footer Hash `json:"footer_sha256"`
}

// Validate tells whether the numbers can be those of a segment.
func (r Ref) Validate() error {
	switch {
	case r.Kind != Delta && r.Kind != Walk:
		return fmt.Errorf("segment %q is of unknown %v", r.Name, r.Kind)
	case r.Size > MaxSize:
		return fmt.Errorf("segment %q has %d bytes, more than the limit of %d", r.Name, r.Size, MaxSize)
	case r.IndexOffset < headerSize, r.IndexOffset > r.Size-FooterSize-indexFixed:
		return fmt.Errorf("segment %q of %d bytes cannot have its index at %d", r.Name, r.Size, r.IndexOffset)
	case r.Footer.IsZero():
		return fmt.Errorf("segment %q has no checksum", r.Name)
	}
	return nil
}

// DamageError tells that a blob is missing or is not what was written. It
// matches blobstore.ErrCorrupt, and its cause.
type DamageError struct {
	// Blob is the blob's whole name.
	Blob string
	// Cause says what is wrong with it.
	Cause error
}

// Error names the blob and the cause.
func (e *DamageError) Error() string { return fmt.Sprintf("blob %s is damaged: %v", e.Blob, e.Cause) }

// Unwrap returns blobstore.ErrCorrupt and the cause.
func (e *DamageError) Unwrap() []error { return []error{blobstore.ErrCorrupt, e.Cause} }
