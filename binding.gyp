{
  # npm looks for this file and would run node-gyp; the addon is built by CMake through `npm run build`. Nothing happens here
  # unless somebody asks: node-gyp rebuild -- -Dmammo_build=1
  'variables': { 'mammo_build%': 0 },
  'targets': [
    {
      'target_name': 'nothing',
      'type': 'none',
      'conditions': [
        ['mammo_build==1', {
          'actions': [
            {
              'action_name': 'build',
              'inputs': [],
              'outputs': ['build/native/Release/mammo.node'],
              'action': ['node', 'bin/mammo-retinanet.js', 'build']
            }
          ]
        }]
      ]
    }
  ]
}
