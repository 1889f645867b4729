package replica

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	repositoryName = "lifeboat.json"
	vmsPrefix      = "vms/"
)

// NewID returns a random identity: 32 hexadecimal digits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ValidID tells whether s is 32 lower-case hexadecimal digits.
func ValidID(s string) bool {
	if len(s) != 32 {
		return false
	}
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// SegmentName returns the name, below the folder of its disk, of a segment.
func SegmentName(epoch uint64, part uint32) string {
	return fmt.Sprintf("%016x-%08x.seg", epoch, part)
}

// ParseSegmentName reads what SegmentName wrote.
func ParseSegmentName(name string) (epoch uint64, part uint32, ok bool) {
	stem, isSegment := strings.CutSuffix(name, ".seg")
	first, second, found := strings.Cut(stem, "-")
	if !isSegment || !found {
		return 0, 0, false
	}
	epoch, ok = parseHex(first, 16)
	number, okPart := parseHex(second, 8)
	return epoch, uint32(number), ok && okPart
}

// SegmentBlob returns the whole name of a segment's blob.
func SegmentBlob(vm, diskID, name string) string { return diskPrefix(vm, diskID) + name }

func vmPrefix(vm string) string           { return vmsPrefix + vm + "/" }
func diskPrefix(vm, diskID string) string { return vmPrefix(vm) + "disks/" + diskID + "/" }
func pointsPrefix(vm string) string       { return vmPrefix(vm) + "points/" }
func eventsPrefix(vm string) string       { return vmPrefix(vm) + "events/" }

// PointBlob returns the whole name of a manifest's blob.
func PointBlob(vm string, epoch uint64) string {
	return fmt.Sprintf("%s%016x.json", pointsPrefix(vm), epoch)
}

func vmBlob(vm string, generation uint64) string {
	return fmt.Sprintf("%svm-%016x.json", vmPrefix(vm), generation)
}

// parseNumbered reads the number out of prefix + 16 digits + ".json".
func parseNumbered(name, prefix string) (uint64, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return 0, false
	}
	digits, ok := strings.CutSuffix(rest, ".json")
	if !ok {
		return 0, false
	}
	return parseHex(digits, 16)
}

// parseHex reads a number of exactly so many lower-case hexadecimal digits.
func parseHex(s string, digits int) (uint64, bool) {
	if len(s) != digits || strings.ToLower(s) != s || strings.ContainsAny(s, "+-_x") {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 16, 64)
	return n, err == nil
}

// checkPath refuses paths of disks that could lead out of the folder that they
// are restored to, or that can be written in more than one way.
func checkPath(path string) error {
	if path == "." || !filepath.IsLocal(path) || filepath.Clean(path) != path ||
		strings.ContainsRune(path, 0) || !utf8.ValidString(path) {
		return fmt.Errorf("disk path %q is not a clean path in UTF-8 inside of a folder", path)
	}
	return nil
}
