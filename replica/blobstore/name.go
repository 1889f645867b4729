package blobstore

import (
	"fmt"
	"strings"
)

// Limits of names, in bytes: Azure takes 1024 for a blob's whole name, of which
// a store's own prefix needs some; file systems take 255 for an element.
const (
	MaxNameLength    = 800
	MaxElementLength = 255
)

// ValidName tells why name cannot name a blob, or returns nil. The rule leaves
// what every file system, URL and blob service takes unchanged, so that a name
// read from a manifest can never leave the store's root.
func ValidName(name string) error {
	if name == "" {
		return fmt.Errorf("blob name is empty")
	}
	if len(name) > MaxNameLength {
		return fmt.Errorf("blob name has %d bytes, at most %d are allowed", len(name), MaxNameLength)
	}
	for element := range strings.SplitSeq(name, "/") {
		if err := validElement(element); err != nil {
			return fmt.Errorf("blob name %q: %w", name, err)
		}
	}
	return nil
}

// ValidPrefix tells why no blob's name can begin with prefix, or returns nil.
func ValidPrefix(prefix string) error {
	whole := strings.TrimSuffix(prefix, "/")
	if whole == prefix {
		// The last element is cut anywhere; a dot at its end may go on.
		whole = strings.TrimRight(prefix, ".")
	}
	if whole == "" && prefix == "" {
		return nil
	}
	if strings.HasSuffix(whole, "/") || whole == "" {
		return fmt.Errorf("prefix %q: no name begins so", prefix)
	}
	if err := ValidName(whole); err != nil {
		return fmt.Errorf("prefix %q: %w", prefix, err)
	}
	return nil
}

// ValidDirectory tells why prefix is not what Prefixes takes, or returns nil:
// it is empty, or the beginning of names up to and including a slash.
func ValidDirectory(prefix string) error {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return fmt.Errorf("prefix %q does not end with a slash", prefix)
	}
	return ValidPrefix(prefix)
}

func validElement(element string) error {
	switch {
	case element == "":
		return fmt.Errorf("an element is empty")
	case len(element) > MaxElementLength:
		return fmt.Errorf("an element has %d bytes, at most %d are allowed", len(element), MaxElementLength)
	case element[0] == '.' || element[len(element)-1] == '.':
		return fmt.Errorf("element %q begins or ends with a dot", element)
	}
	for i := range len(element) {
		if !nameByte(element[i]) {
			return fmt.Errorf("element %q holds %q, which is none of A-Z a-z 0-9 . _ -", element, element[i])
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}
