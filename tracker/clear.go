package tracker

// BeginClear implements Tracked. Whoever discards a disk of terabytes, or
// allocates one, names a range of which most is a hole before and after: only
// what is data in it can change. So it takes as long, and marks as much, as
// there is data.
func (d *tracked) BeginClear(offset, length int64) (change uint64) {
	change, turn, x := d.beginChange(offset, length)
	if x.Count == 0 {
		return change
	}
	// A change of the turn before may still fill a hole that was there when
	// this began; those of this turn mark what they fill.
	for r := regionOf(x.Start); r.first() < x.End() && r < regionOf(x.Start)+shards; r++ {
		d.gate.settle(r, turn)
	}
	for next := x.Start; next < x.End(); {
		data, err := allocated(d.file, next)
		if err != nil {
			data = x // so all of it may be data
		}
		if data.Count == 0 || data.Start >= x.End() {
			break
		}
		data.Start = max(data.Start, next)
		data.Count = uint64(min(data.End(), x.End()) - data.Start)
		if !d.zones.warm(data) {
			d.heat(data)
		}
		d.touch(turn, data)
		next = data.End()
	}
	return change
}
