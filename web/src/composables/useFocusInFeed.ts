import { nextTick, watch } from 'vue'
import type { Ref } from 'vue'
import type { Recommendation } from '../api/client'

interface Place {
  itemId: string
  index: number
  control: number
}

/** Keeps the keyboard's place: where a card that held the focus leaves the feed, the one that follows takes it over. */
export function useFocusInFeed(feed: Ref<Recommendation | null>) {
  let held: Place | null = null

  watch(feed, (_, before) => {
    hold(before)
    void nextTick(restore)
  })

  function hold(shown: Recommendation | null) {
    const control = document.activeElement
    if (control?.closest('dialog')) return // it gives the focus back to the card it was opened from
    held = null
    const card = control?.closest<HTMLElement>('[data-item]')
    if (!card || !shown) return
    const itemId = card.dataset.item ?? ''
    const index = shown.items.findIndex((item) => item.item_id === itemId)
    held = { itemId, index, control: controls(card).findIndex((one) => one === control) }
  }

  function restore() {
    if (held === null || feed.value === null || !isLost()) return
    const { itemId, index, control } = held
    const shown = feed.value.items
    const heir = shown.find((item) => item.item_id === itemId) ?? shown[Math.min(index, shown.length - 1)]
    const card = [...document.querySelectorAll<HTMLElement>('[data-item]')].find((one) => one.dataset.item === heir?.item_id)
    if (card) controls(card)[control]?.focus()
  }

  return { hold: () => hold(feed.value), restore }
}

/** Whether nothing that is seen has the focus; what was just taken away may hold it for a moment yet. */
function isLost(): boolean {
  const holder = document.activeElement
  return holder === null || holder === document.body || holder.getClientRects().length === 0
}

function controls(card: HTMLElement): HTMLElement[] {
  return [...card.querySelectorAll('button')]
}
