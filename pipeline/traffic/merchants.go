package traffic

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// merchant sells in one region.
type merchant struct {
	account   string
	category  uint8
	region    uint8
	terminals []string // where payers stand; none online
}

// market is all merchants, and who of them sells what where.
type market struct {
	merchants []merchant
	selling   [len(regions)][len(categories)][]int32 // indices of merchants
	shops     [len(regions)][]int32                  // those with terminals, bill and transit not among them
	online    [len(regions)][]int32
}

// newMarket spreads about n merchants over the regions and categories, at least
// one for each pair.
func newMarket(rng *rand.Rand, n int) *market {
	m := &market{}
	var people, sellers float64
	for i := range regions {
		people += regions[i].share
	}
	for i := range categories {
		sellers += categories[i].share
	}
	for r := range regions {
		for c := range categories {
			kind := &categories[c]
			count := max(1, int(math.Round(float64(n)*regions[r].share/people*kind.share/sellers)))
			for range count {
				m.add(rng, uint8(r), uint8(c))
			}
		}
		// Any of them may be the popular one.
		rng.Shuffle(len(m.shops[r]), func(i, j int) { m.shops[r][i], m.shops[r][j] = m.shops[r][j], m.shops[r][i] })
		rng.Shuffle(len(m.online[r]), func(i, j int) { m.online[r][i], m.online[r][j] = m.online[r][j], m.online[r][i] })
	}
	return m
}

func (m *market) add(rng *rand.Rand, region, kind uint8) {
	index, c := len(m.merchants), &categories[kind]
	number := strconv.Itoa(10_000 + index)
	seller := merchant{account: "m-" + number, category: kind, region: region}
	terminals := 0
	switch {
	case c.channel == "transit":
		terminals = 40
	case c.shop:
		terminals = 1 + rng.IntN(4)
	}
	for i := range terminals {
		seller.terminals = append(seller.terminals, "t-"+number+"-"+strconv.Itoa(i+1))
	}
	m.merchants = append(m.merchants, seller)
	m.selling[region][kind] = append(m.selling[region][kind], int32(index))
	if c.shop {
		m.shops[region] = append(m.shops[region], int32(index))
	}
	if c.online {
		m.online[region] = append(m.online[region], int32(index))
	}
}

// zipf returns a rank below n, rank i being about 1/(i+1) as likely as rank 0.
func zipf(rng *rand.Rand, n int) int {
	return min(n-1, int(math.Exp(rng.Float64()*math.Log(float64(n+1))))-1)
}

// choose returns a merchant that a person pays: mostly one of three favourites
// among the candidates, else any, the popular ones more often.
func (m *market) choose(rng *rand.Rand, among []int32, person uint64) *merchant {
	rank := 0
	switch u := rng.Float64(); {
	case u < 0.40:
		rank = favourite(person, 0, len(among))
	case u < 0.58:
		rank = favourite(person, 1, len(among))
	case u < 0.70:
		rank = favourite(person, 2, len(among))
	default:
		rank = zipf(rng, len(among))
	}
	return &m.merchants[among[rank]]
}

// favourite is a person's own choice, the same every time (splitmix64).
func favourite(person, which uint64, n int) int {
	x := person*3 + which + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return int((x ^ x>>31) % uint64(n))
}
