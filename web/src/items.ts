import type { ItemCard } from './api/client'

const priceFormat = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 })

/** A price without a currency, as the catalogue names none. */
export function formatPrice(price: number): string {
  return priceFormat.format(price)
}

/** The last category is the narrowest. */
export function finestCategory(item: ItemCard): string {
  return item.categories.at(-1) ?? item.kind
}

/** The colour of a code, so that items of one branch look related; the golden angle keeps neighbours apart. */
export function codeHue(code: number, level: number): number {
  return (code * 137.5 + level * 40) % 360
}
