package fusefs

import (
	"bytes"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// What looks like a disk is served by the filter even while it is not
// protected: a running VM never closes its disk, and one opened with kernel
// passthrough could not be protected before it did. What is taken for a disk by
// mistake loses nothing but speed.
//
// Install media (ISO images) are not taken for disks: nobody writes to them.

// diskNames are the patterns, in lower case, of names that disks have.
var diskNames = [...]string{
	"*.vhd", "*.vhdx", "*.avhd", "*.avhdx", "*.qcow", "*.qcow2", "*.qed",
	"*.raw", "*.img", "*.vmdk", "*.vdi", "*.hds", "*.hdd",
}

// Bits of node.names.
const (
	nameDisk uint32 = 1 << iota
	nameExcluded
)

// named notes a name that an inode is seen by.
func (f *filter) named(n *node, name string) {
	if n.kind != unix.S_IFREG {
		return
	}
	var seen uint32
	for _, pattern := range f.options.Excluded {
		if ok, _ := path.Match(pattern, name); ok {
			seen |= nameExcluded
		}
	}
	lower := strings.ToLower(name)
	for _, pattern := range diskNames {
		if ok, _ := path.Match(pattern, lower); ok {
			seen |= nameDisk
		}
	}
	if seen&^n.names.Load() != 0 {
		n.names.Or(seen)
		n.record.AddNames(seen)
	}
}

// looksLikeDisk judges by the names that the file was seen by, and then by its
// content.
func (f *filter) looksLikeDisk(n *node, fd int) bool {
	switch names := n.names.Load(); {
	case names&nameExcluded != 0:
		return false
	case names&nameDisk != 0:
		return true
	}
	var s syscall.Stat_t
	if err := syscall.Fstat(fd, &s); err != nil {
		return true // in doubt it can be protected
	}
	if s.Size == 0 {
		return false
	}
	look, err := reopen(fd, unix.O_RDONLY|unix.O_NOATIME) // nobody has read it yet
	if err != nil {
		return true
	}
	defer closeFD(look)
	return contentOfDisk(s.Size, func(p []byte, offset int64) bool {
		k, err := unix.Pread(look, p, offset)
		return err == nil && k == len(p)
	})
}

// signature is a constant at a fixed place of a disk.
type signature struct {
	offset int64
	value  string
}

// formats are the signatures of files that can be nothing but disks.
var formats = [...]signature{
	{0, "conectix"}, // dynamic and differencing VHD
	{0, "vhdxfile"}, // VHDX
	{0, "QFI\xfb"},  // qcow, qcow2
	{0, "QED\x00"},  // QED
	{0, "KDMV"},     // VMDK, sparse
	{0, "COWD"},     // VMDK, ESX copy-on-write
	{0, "# Disk DescriptorFile"},
	{0x40, "\x7f\x10\xda\xbe"}, // VDI
	{0, "WithoutFreeSpace"},    // Parallels
	{0, "WithouFreSpacExt"},
	{0, "LUKS\xba\xbe"},
}

// contents are the signatures of what a raw disk holds. Other files may have
// them by chance, so they count only in files of some size, in whole sectors.
var contents = [...]signature{
	{510, "\x55\xaa"},          // MBR, and the boot sectors of FAT and NTFS
	{512, "EFI PART"},          // GPT, sectors of 512 bytes
	{4096, "EFI PART"},         // GPT, sectors of 4096 bytes
	{1080, "\x53\xef"},         // ext2, ext3, ext4
	{0, "XFSB"},                // XFS
	{65536 + 64, "_BHRfS_M"},   // Btrfs
	{512, "LABELONE"},          // LVM
	{4096 - 10, "SWAPSPACE2"},  // swap
	{4096, "\xfc\x4e\x2b\xa9"}, // Linux RAID, version 1.2
}

const (
	sector     = 512
	minRawDisk = 1 << 20
)

// contentOfDisk tells whether a file of size bytes is a disk; read fills p from
// offset on, entirely or not at all.
func contentOfDisk(size int64, read func(p []byte, offset int64) bool) bool {
	has := func(s signature) bool {
		p := make([]byte, len(s.value))
		return s.offset+int64(len(p)) <= size && read(p, s.offset) && bytes.Equal(p, []byte(s.value))
	}
	for _, s := range formats {
		if has(s) {
			return true
		}
	}
	if size >= sector && has(signature{size - sector, "conectix"}) {
		return true // fixed VHD
	}
	if size < minRawDisk || size%sector != 0 {
		return false
	}
	for _, s := range contents {
		if has(s) {
			return true
		}
	}
	return false
}
