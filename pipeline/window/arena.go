package window

const (
	smallBlock = 4       // items
	pageItems  = 1 << 15 // items of an arena page; a larger block gets a page of its own
)

// arena gives out blocks of items in powers of two, from pages that the garbage
// collector need not scan where items hold no pointers.
type arena[T any] struct {
	pages  [][]T
	shared bool // there is a page for small blocks
	page   int  // the last such page
	used   int  // units used in it
	free   [33][]uint32
	spare  []uint32 // numbers of pages that were given back
	held   int      // units in blocks that are in use
}

const unitsPerPage = pageItems / smallBlock

// alloc returns the address of a block of smallBlock<<class items: the page
// number times unitsPerPage, plus the unit in the page. What it held before is
// still there.
func (a *arena[T]) alloc(class uint8) uint32 {
	a.held += 1 << class
	if f := a.free[class]; len(f) > 0 {
		block := f[len(f)-1]
		a.free[class] = f[:len(f)-1]
		return block
	}
	units := 1 << class
	if units >= unitsPerPage {
		return a.newPage(units*smallBlock) * unitsPerPage
	}
	if !a.shared || a.used+units > unitsPerPage {
		a.page, a.shared, a.used = int(a.newPage(pageItems)), true, 0
	}
	block := uint32(a.page*unitsPerPage + a.used)
	a.used += units
	return block
}

func (a *arena[T]) newPage(size int) uint32 {
	if n := len(a.spare); n > 0 {
		page := a.spare[n-1]
		a.spare = a.spare[:n-1]
		a.pages[page] = make([]T, size)
		return page
	}
	a.pages = append(a.pages, make([]T, size))
	return uint32(len(a.pages) - 1)
}

func (a *arena[T]) release(block uint32, class uint8) {
	a.held -= 1 << class
	if 1<<class >= unitsPerPage { // a page of its own: give the memory back, keep the number
		a.pages[block/unitsPerPage] = nil
		a.spare = append(a.spare, block/unitsPerPage)
		return
	}
	a.free[class] = append(a.free[class], block)
}

func (a *arena[T]) block(block uint32, class uint8) []T {
	page, unit := block/unitsPerPage, int(block%unitsPerPage)
	return a.pages[page][unit*smallBlock : unit*smallBlock+smallBlock<<class]
}
