package replica

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"lifeboat/replica/segment"
)

// VM describes a protected VM. When something in it changes, a new generation
// is put beside the old one.
type VM struct {
	Format int `json:"format"`
	// ID is the VM's identity for good; Name is what people call it.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Generation counts from 1.
	Generation uint64 `json:"generation"`
	// Key keys the block checksums; it is the same in all generations.
	Key segment.Key `json:"key"`
	// Created is when this generation was put, in UTC.
	Created time.Time `json:"created"`
	// Disabled is when the protection was ended, in UTC; zero while it lasts.
	// The replica stays, and its name may be given to another VM.
	Disabled time.Time `json:"disabled,omitzero"`
	Disks    []VMDisk  `json:"disks"`
}

// VMDisk describes a disk of a VM.
type VMDisk struct {
	ID string `json:"id"`
	// Path is relative to the folder that the filter is mounted over.
	Path string `json:"path"`
	// Format is that of the disk file as it was recognised: raw, vhd, vhdx,
	// qcow2; empty if it was not looked at.
	Format string `json:"format,omitempty"`
}

// Validate tells whether the VM is one that may lie in a container.
func (v *VM) Validate() error {
	switch {
	case v.Format != format:
		return fmt.Errorf("VM: %w (%d)", ErrFormat, v.Format)
	case !ValidID(v.ID):
		return fmt.Errorf("VM id %q is not 32 hexadecimal digits", v.ID)
	case v.Generation == 0:
		return fmt.Errorf("VM %s has the generation 0; generations count from 1", v.ID)
	case v.Key == segment.Key{}:
		return fmt.Errorf("VM %s has no checksum key", v.ID)
	case v.Created.Location() != time.UTC || v.Created.IsZero():
		return fmt.Errorf("VM %s has no time of creation in UTC", v.ID)
	case v.Disabled.Location() != time.UTC:
		return fmt.Errorf("VM %s was disabled at a time that is not in UTC", v.ID)
	case len(v.Disks) == 0:
		return fmt.Errorf("VM %s has no disk", v.ID)
	}
	if err := CheckName(v.Name); err != nil {
		return err
	}
	ids, paths := map[string]bool{}, map[string]bool{}
	for _, d := range v.Disks {
		if err := checkDisk(d.ID, d.Path, ids, paths); err != nil {
			return fmt.Errorf("VM %s: %w", v.ID, err)
		}
	}
	return nil
}

// CheckName tells whether a VM may have the name: 1 to 255 bytes of UTF-8
// without control characters, and not what could be taken for an id.
func CheckName(name string) error {
	if name == "" || len(name) > 255 || !utf8.ValidString(name) || ValidID(name) {
		return fmt.Errorf("VM name %q is not allowed: 1 to 255 bytes of text that is no VM id", name)
	}
	for _, c := range name {
		if unicode.IsControl(c) {
			return fmt.Errorf("VM name %q is not allowed: it has a control character", name)
		}
	}
	return nil
}

// checkDisk checks a disk's identity and path, and that neither was seen.
func checkDisk(id, path string, ids, paths map[string]bool) error {
	if !ValidID(id) {
		return fmt.Errorf("disk id %q is not 32 hexadecimal digits", id)
	}
	if err := checkPath(path); err != nil {
		return err
	}
	if ids[id] {
		return fmt.Errorf("two disks have the id %s", id)
	}
	if paths[path] {
		return fmt.Errorf("two disks have the path %q", path)
	}
	ids[id], paths[path] = true, true
	return nil
}

func decodeVM(data []byte) (*VM, error) {
	v := new(VM)
	if err := decodeDocument(data, v); err != nil {
		return nil, err
	}
	return v, v.Validate()
}
