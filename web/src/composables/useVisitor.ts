import { computed, ref, shallowRef } from 'vue'
import * as api from '../api/client'
import type { Action, ItemCard, Profile, Recommendation, RecommendedCard } from '../api/client'

/** What changed in the feed when it was drawn anew. */
export interface Change {
  kind: 'new' | 'up'
  places: number
}

const FEED_COUNT = 12

/** Somebody looking at the feed: who they are, what they see, and what their last step changed. */
export function useVisitor() {
  const userId = ref<string | null>(null)
  const isNewcomer = ref(false)
  const feed = shallowRef<Recommendation | null>(null)
  const person = shallowRef<Profile | null>(null)
  const changes = shallowRef<Map<string, Change>>(new Map())
  const roundTripMs = ref<number | null>(null)
  const lastStep = ref('')
  const isLoading = ref(false)
  const busyItem = ref<string | null>(null)
  const problem = shallowRef<api.ApiError | null>(null)

  let steps: Promise<void> = Promise.resolve()

  async function guarded(work: () => Promise<void>): Promise<void> {
    problem.value = null
    try {
      await work()
    } catch (error) {
      problem.value = error instanceof api.ApiError ? error : new api.ApiError(String(error), -1, null)
    }
  }

  async function refresh(compare: boolean): Promise<void> {
    const asked = userId.value
    if (asked === null) return
    const started = performance.now()
    const answer = await api.recommend(asked, FEED_COUNT)
    const took = performance.now() - started
    const known = isNewcomer.value && person.value === null && !compare ? null : await api.profile(asked)
    if (asked !== userId.value) return // somebody else was picked meanwhile
    roundTripMs.value = took
    changes.value = compare && feed.value ? compared(feed.value.items, answer.items) : new Map()
    feed.value = answer
    person.value = known
  }

  async function become(id: string, newcomer: boolean): Promise<void> {
    userId.value = id
    isNewcomer.value = newcomer
    feed.value = null
    person.value = null
    changes.value = new Map()
    lastStep.value = ''
    isLoading.value = true
    await guarded(() => refresh(false))
    isLoading.value = false
  }

  /** Send a step and draw the feed anew; steps are taken one after the other, none is dropped. */
  function act(item: ItemCard, action: Action): Promise<void> {
    const asked = userId.value
    if (asked === null) return Promise.resolve()
    steps = steps.then(() => step(asked, item, action))
    return steps
  }

  async function step(asked: string, item: ItemCard, action: Action): Promise<void> {
    busyItem.value = item.item_id
    await guarded(async () => {
      const isCurrent = asked === userId.value
      await api.sendFeedback(asked, item.item_id, action, isCurrent ? (feed.value?.attribution_id ?? null) : null)
      if (asked !== userId.value) return
      await refresh(true)
      // Told together with what it changed: earlier, it would say that nothing did.
      if (asked === userId.value) lastStep.value = `${STEP_WORDS[action] ?? action} “${item.title}”`
    })
    busyItem.value = null
  }

  async function retry(): Promise<void> {
    isLoading.value = feed.value === null
    await guarded(() => refresh(false))
    isLoading.value = false
  }

  const summary = computed(() => {
    const fresh = [...changes.value.values()].filter((change) => change.kind === 'new').length
    const risen = changes.value.size - fresh
    if (lastStep.value === '') return ''
    const parts = [fresh ? `${fresh} new` : '', risen ? `${risen} moved up` : ''].filter(Boolean)
    return `${lastStep.value} → ${parts.join(', ') || 'nothing else changed'}`
  })

  return { userId, isNewcomer, feed, person, changes, roundTripMs, summary, isLoading, busyItem, problem, become, act, retry }
}

const STEP_WORDS: Partial<Record<Action, string>> = {
  click: 'Opened',
  favorite: 'Liked',
  purchase: 'Bought',
  dislike: 'Not interested in',
}

function compared(before: RecommendedCard[], after: RecommendedCard[]): Map<string, Change> {
  const survivors = new Set(after.map((item) => item.item_id))
  // Places are counted among the items that stayed, so that closing a gap is not called rising.
  const stayed = before.filter((item) => survivors.has(item.item_id)).map((item) => item.item_id)
  const oldPlace = new Map(stayed.map((id, place) => [id, place]))
  const found = new Map<string, Change>()
  let place = 0
  for (const item of after) {
    const was = oldPlace.get(item.item_id)
    if (was === undefined) found.set(item.item_id, { kind: 'new', places: 0 })
    else {
      if (was > place) found.set(item.item_id, { kind: 'up', places: was - place })
      place += 1
    }
  }
  return found
}
