import vue from '@vitejs/plugin-vue'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [vue()],
  build: {
    outDir: '../src/asterism/serving/http/page',
    emptyOutDir: true,
  },
  server: { proxy: { '/api': 'http://127.0.0.1:8000', '/readyz': 'http://127.0.0.1:8000' } },
})
