import { computed, shallowRef } from 'vue'
import type { Ref } from 'vue'
import * as api from '../api/client'
import type { ApiError, Step } from '../api/client'

/** Steps on their way to the service, one after the other; one that could not be sent is kept, to be sent again. */
export function useSteps(userId: Ref<string | null>, afterwards: (step: Step) => Promise<void>) {
  const waiting = shallowRef<Step[]>([])
  const failed = shallowRef<{ step: Step; problem: ApiError }[]>([])

  let line: Promise<void> = Promise.resolve()

  const busyItems = computed(() => new Set(waiting.value.filter(isMine).map((step) => step.item.item_id)))
  const problems = computed(() => failed.value.filter(({ step }) => isMine(step)).map((one) => one.problem))

  function isMine(step: Step): boolean {
    return step.userId === userId.value
  }

  function take(step: Step): Promise<void> {
    waiting.value = [...waiting.value, step]
    line = line.then(() => send(step))
    return line
  }

  async function send(step: Step): Promise<void> {
    try {
      await api.sendFeedback(step)
      await afterwards(step)
    } catch (error) {
      failed.value = [...failed.value, { step, problem: api.asApiError(error) }]
    }
    waiting.value = waiting.value.filter((one) => one !== step)
  }

  /** Send again what failed, and let go what was refused for good; how many were sent. */
  async function retry(): Promise<number> {
    const mine = failed.value.filter(({ step }) => isMine(step))
    failed.value = failed.value.filter(({ step }) => !isMine(step))
    const again = mine.filter((one) => api.mayPass(one.problem))
    await Promise.all(again.map(({ step }) => take(step)))
    return again.length
  }

  return { busyItems, problems, take, retry }
}
