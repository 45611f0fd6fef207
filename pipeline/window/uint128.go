package window

import (
	"math"
	"math/big"
	"math/bits"
)

// Sums of money are integers of 128 bits and sums of squares of 192, in two and
// three words, low word first: nothing drifts after a year of adding and
// removing, nothing cancels, nothing overflows.

func add128(w []uint64, v uint64) {
	var carry uint64
	w[0], carry = bits.Add64(w[0], v, 0)
	w[1] += carry
}

func sub128(w []uint64, v uint64) {
	var borrow uint64
	w[0], borrow = bits.Sub64(w[0], v, 0)
	w[1] -= borrow
}

// addWide and subWide add and take away numbers of as many words as w has.
func addWide(w, v []uint64) {
	var carry uint64
	for i := range w {
		w[i], carry = bits.Add64(w[i], v[i], carry)
	}
}

func subWide(w, v []uint64) {
	var borrow uint64
	for i := range w {
		w[i], borrow = bits.Sub64(w[i], v[i], borrow)
	}
}

func addSquare(w []uint64, v uint64) {
	hi, lo := bits.Mul64(v, v)
	var carry uint64
	w[0], carry = bits.Add64(w[0], lo, 0)
	w[1], carry = bits.Add64(w[1], hi, carry)
	w[2] += carry
}

func subSquare(w []uint64, v uint64) {
	hi, lo := bits.Mul64(v, v)
	var borrow uint64
	w[0], borrow = bits.Sub64(w[0], lo, 0)
	w[1], borrow = bits.Sub64(w[1], hi, borrow)
	w[2] -= borrow
}

// mean divides a sum of n amounts by n, rounded once where the sum is below 2^53.
func mean(sum []uint64, n uint64) float64 {
	if sum[1] == 0 && sum[0] < 1<<53 {
		return float64(sum[0]) / float64(n)
	}
	hi, rest := sum[1]/n, sum[1]%n
	lo, rest := bits.Div64(rest, sum[0], n)
	return math.Ldexp(float64(hi), 64) + float64(lo) + float64(rest)/float64(n)
}

// deviation is the population standard deviation of n amounts with the given
// sum and sum of squares: sqrt(n·Q − S²) / n, the difference taken in integers.
func deviation(n uint64, sum, squares []uint64) float64 {
	if n < 2 {
		return 0
	}
	if sum[1] == 0 && squares[2] == 0 {
		hi, lo := bits.Mul64(squares[0], n)
		over, mid := bits.Mul64(squares[1], n)
		mid, carry := bits.Add64(mid, hi, 0)
		if over+carry == 0 { // n·Q fits 128 bits, and S² is not larger
			sHi, sLo := bits.Mul64(sum[0], sum[0])
			dLo, borrow := bits.Sub64(lo, sLo, 0)
			dHi, _ := bits.Sub64(mid, sHi, borrow)
			return math.Sqrt(math.Ldexp(float64(dHi), 64)+float64(dLo)) / float64(n)
		}
	}
	q := wide(squares)
	q.Mul(q, new(big.Int).SetUint64(n))
	s := wide(sum)
	d, _ := new(big.Float).SetInt(q.Sub(q, s.Mul(s, s))).Float64()
	return math.Sqrt(d) / float64(n)
}

func wide(w []uint64) *big.Int {
	v := new(big.Int)
	for i := len(w) - 1; i >= 0; i-- {
		v.Lsh(v, 64)
		v.Or(v, new(big.Int).SetUint64(w[i]))
	}
	return v
}
