import { ref } from 'vue'

type Theme = 'light' | 'dark'

/** The colours the system prefers, until the visitor chooses. */
export function useTheme() {
  const kept = localStorage.getItem('asterism-theme')
  const prefersLight = matchMedia('(prefers-color-scheme: light)').matches
  const theme = ref<Theme>(kept === 'light' || kept === 'dark' ? kept : prefersLight ? 'light' : 'dark')
  document.documentElement.dataset.theme = theme.value

  function toggle() {
    theme.value = theme.value === 'dark' ? 'light' : 'dark'
    document.documentElement.dataset.theme = theme.value
    localStorage.setItem('asterism-theme', theme.value)
  }

  return { theme, toggle }
}
