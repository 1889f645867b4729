// Package recovery makes disks out of a container, and needs nothing else.
//
// A restore writes each disk to a hidden temporary file in the folder where it
// is to be, reads it back, and compares the checksum of the whole disk with the
// one that the manifest has from the source. Only when every disk of the VM was
// proved equal do they get their names; a restore that fails or is killed leaves
// no file of a disk's name, and replaces none.
//
// Data is fetched segment by segment, in the order in which it lies there, so
// that each frame is fetched once however scattered its blocks are over the
// disk. All that is written goes through an os.Root: no path of a manifest and
// no symbolic link leads out of the target folder.
package recovery
