import { computed, ref, shallowRef } from 'vue'
import * as api from '../api/client'
import type { Action, ApiError, ItemCard, Profile, Recommendation, RecommendedCard, Step } from '../api/client'
import { useSteps } from './useSteps'

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
  const feedProblem = shallowRef<ApiError | null>(null)

  const steps = useSteps(userId, redrawAfter)
  /** One problem at a time is told: what wants a key stands in the way of all else. */
  const problem = computed(() => {
    const all = [...steps.problems.value, ...(feedProblem.value ? [feedProblem.value] : [])]
    return all.find(api.wantsKey) ?? all[0] ?? null
  })

  let drawing = 0 // counts the drawings of the feed; only the newest is shown
  let isKnown = false

  /** Draw the feed anew; what a step changed is marked and told. */
  async function draw(step: Step | null): Promise<void> {
    const asked = userId.value
    if (asked === null) return
    const number = ++drawing
    isLoading.value = feed.value === null
    try {
      const started = performance.now()
      const answer = await api.recommend(asked, FEED_COUNT)
      const took = performance.now() - started
      const known = isKnown ? await api.profile(asked) : null
      if (number !== drawing) return
      roundTripMs.value = took
      changes.value = step && feed.value ? compared(feed.value.items, answer.items) : new Map()
      lastStep.value = step ? `${STEP_WORDS[step.action] ?? step.action} “${step.item.title}”` : ''
      feed.value = answer
      person.value = known
      feedProblem.value = null
    } catch (error) {
      if (number === drawing) feedProblem.value = api.asApiError(error)
    }
    if (number === drawing) isLoading.value = false
  }

  function become(id: string, newcomer: boolean): Promise<void> {
    userId.value = id
    isNewcomer.value = newcomer
    isKnown = !newcomer
    feed.value = null
    person.value = null
    changes.value = new Map()
    lastStep.value = ''
    feedProblem.value = null
    return draw(null)
  }

  async function redrawAfter(step: Step): Promise<void> {
    if (step.userId !== userId.value) return // somebody else was picked meanwhile
    isKnown = true
    await draw(step)
  }

  /** Send a step and draw the feed anew; one at a time for an item. The attribution id is that of the slate it was in. */
  function act(item: ItemCard, action: Action, attributionId: string | null): Promise<void> {
    if (userId.value === null || steps.busyItems.value.has(item.item_id)) return Promise.resolve()
    const eventId = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`
    return steps.take({ userId: userId.value, item, action, attributionId, eventId })
  }

  async function retry(): Promise<void> {
    feedProblem.value = null
    const sent = await steps.retry()
    if (sent === 0) await draw(null)
  }

  const summary = computed(() => {
    const fresh = [...changes.value.values()].filter((change) => change.kind === 'new').length
    const risen = changes.value.size - fresh
    if (lastStep.value === '') return ''
    const parts = [fresh ? `${fresh} new` : '', risen ? `${risen} moved up` : ''].filter(Boolean)
    return `${lastStep.value} → ${parts.join(', ') || 'nothing else changed'}`
  })

  const { busyItems } = steps
  return { userId, isNewcomer, feed, person, changes, roundTripMs, summary, isLoading, busyItems, problem, become, act, retry }
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
